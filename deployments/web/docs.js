// The API pages: Swagger UI over /openapi.json.
window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true });
