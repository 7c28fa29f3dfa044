// Swagger UI on this server's OpenAPI document.

const spec = await (await fetch("openapi.json")).json();
// The routes are relative to the page, so that they also work under a proxy's path prefix.
spec.servers ??= [{ url: new URL(".", location.href).pathname.replace(/\/$/, "") || "/" }];

window.SwaggerUIBundle({
  spec,
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // the default is a third party's server
});
