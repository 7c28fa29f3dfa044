// Swagger UI on this server's OpenAPI document.

const spec = await (await fetch("openapi.json")).json();
// Where the page is, the routes are: behind a proxy's path too.
spec.servers ??= [{ url: new URL(".", location.href).pathname.replace(/\/$/, "") || "/" }];

window.SwaggerUIBundle({
  spec,
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // it would be somebody else's
});
