"""The page's functions for other programs: a REST API and MCP tools over the same operations. Knows no layout."""
