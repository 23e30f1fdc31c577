//! Page to try all methods: Swagger UI, embedded in the binary.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use swagger_ui_dist::{ApiDefinition, OpenApiSource};

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Objects on the bus</title>
<link rel="stylesheet" href="ui/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="page"></div>
<script src="ui/swagger-ui-bundle.js"></script>
<script src="try.js"></script>
</body>
</html>
"#;

const SCRIPT: &str = "\
window.ui = SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#page',
  deepLinking: true,
  docExpansion: 'none',
  tryItOutEnabled: true,
  validatorUrl: null,
});
";

/// Content security policy: everything is loaded from the gateway. Styles may be inline, scripts not.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

pub(super) fn router() -> Router {
    let api_definition = OpenApiSource::Uri("/openapi.json");
    let assets = ApiDefinition { uri_prefix: "/ui", api_definition, title: None };
    Router::new()
        .route("/", get(page))
        .route("/try.js", get(script))
        .merge(swagger_ui_dist::generate_routes(assets))
}

async fn page() -> Response {
    let mut response = Html(PAGE).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript")], SCRIPT).into_response()
}
