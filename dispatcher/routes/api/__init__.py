"""The API pages: what each operation takes, answers and refuses, as OpenAPI and as pages in a browser."""
