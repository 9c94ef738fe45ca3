"""The HTTP edge: routes, errors, middleware, request options, OpenAPI. No Ray in here."""
