import js from '@eslint/js';
import globals from 'globals';

export default [
  { ignores: ['**/.venv/', 'runs/', 'site/'] },
  js.configs.recommended,
  {
    files: ['geko_app/static/*.js'],
    languageOptions: { globals: { ...globals.browser, Plotly: 'readonly' } },
  },
  {
    rules: {
      curly: ['error', 'multi-line'],
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'max-lines': ['error', { max: 400 }],
      'max-lines-per-function': ['error', { max: 60 }],
      'max-params': ['error', 6],
      'no-shadow': 'error',
      'no-var': 'error',
      'object-shorthand': 'error',
      'prefer-const': 'error',
      'prefer-template': 'error',
    },
  },
];
