"""A small OpenID provider on this machine, for Gradio's unmodified sign-in: it says who `user` is. Knows nothing of GEKO."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "geko-space", "a-secret-of-the-space"


class OAuthServer:
    """The provider; use as a context manager. Whoever comes to sign in is `user`."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.nonces: dict[str, str] = {}  # by code
        provider = self

        class Bound(_Handler):
            server_oauth = provider

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> OAuthServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def environment(self) -> dict[str, str]:
        """What the Hub sets in a Space with `hf_oauth: true`."""
        return {
            "OAUTH_CLIENT_ID": CLIENT,
            "OAUTH_CLIENT_SECRET": SECRET,
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": self.url,
        }

    def discovery(self) -> dict[str, Any]:
        """Where a client finds what."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def id_token(self, nonce: str) -> str:
        """Who has signed in, signed."""
        now = int(time.time())
        who = {
            "sub": self.user,
            "preferred_username": self.user,
            "name": self.user.title(),
            "profile": "",
            "picture": "",
        }
        claims = {**who, "iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": nonce}
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)


class _Handler(BaseHTTPRequestHandler):
    server_oauth: OAuthServer

    def do_GET(self) -> None:
        url, provider = urlsplit(self.path), self.server_oauth
        if url.path == "/.well-known/openid-configuration":
            self._json(provider.discovery())
        elif url.path == "/keys":
            self._json({"keys": [provider.key.as_dict(private=False)]})
        else:
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            code = f"code-{len(provider.nonces)}"
            provider.nonces[code] = asked["nonce"]
            answer = urlencode({"code": code, "state": asked["state"]})
            target = asked["redirect_uri"]
            self.send_response(302)
            self.send_header("Location", f"{target}{'&' if '?' in target else '?'}{answer}")
            self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        code = parse_qs(body)["code"][0]
        token = self.server_oauth.id_token(self.server_oauth.nonces.pop(code))
        self._json({"access_token": "hf_oauth_x", "token_type": "bearer", "expires_in": 600, "id_token": token})

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
