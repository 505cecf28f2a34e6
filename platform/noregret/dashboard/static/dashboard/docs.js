// Swagger UI over our own OpenAPI document.
"use strict";
SwaggerUIBundle({ url: document.getElementById("swagger-ui").dataset.schema, dom_id: "#swagger-ui", deepLinking: true });
