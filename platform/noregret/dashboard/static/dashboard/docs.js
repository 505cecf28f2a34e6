// Swagger UI over our own OpenAPI document.
"use strict";
// A call's path is a link within the button that opens it, which a keyboard and a screen reader can't tell apart: it is text, and the
// address follows what is open all the same.
const pathAsText = system => ({
  wrapComponents: { DeepLink: () => ({ text }) => system.React.createElement("span", null, text) },
});
SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.schema, dom_id: "#swagger-ui", deepLinking: true, plugins: [pathAsText],
});
