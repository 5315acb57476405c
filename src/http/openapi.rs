//! The table of routes as OpenAPI 3.1 has it.

use super::router::{Dialect, PARAMETERS, ROUTES, Route};
use serde_json::{Map, Value, json};

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    let parameters = PARAMETERS.iter().map(|(name, about)| {
        let parameter = json!({
            "name": name,
            "in": "query",
            "description": about,
            "schema": { "type": "string" },
        });
        (name.to_string(), parameter)
    });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Millstream", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "parameters": Value::Object(parameters.collect()),
            "responses": {
                "Problem": {
                    "description": "A problem, as RFC 9457 has it",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
                "Refusal": {
                    "description": "A refusal, as REST proxies have it",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Refusal" } } },
                },
            },
            "schemas": { "Refusal": {
                "type": "object",
                "required": ["error_code", "message"],
                "properties": {
                    "error_code": { "type": "integer" },
                    "message": { "type": "string" },
                },
            }, "Problem": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "retriable", "no_side_effects"],
                "properties": {
                    "type": { "type": "string" },
                    "title": { "type": "string" },
                    "status": { "type": "integer" },
                    "detail": { "type": "string" },
                    "retriable": { "type": "boolean" },
                    "no_side_effects": { "type": "boolean" },
                    "kafka_error": { "type": "integer" },
                },
            } },
        },
    })
}

fn operation(route: &Route) -> Value {
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_query = route.parameters.iter();
    let in_query =
        in_query.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
    let refusal = match route.dialect {
        Dialect::Native => "#/components/responses/Problem",
        Dialect::V2 | Dialect::V3 => "#/components/responses/Refusal",
    };
    let mut operation = json!({
        "summary": route.about,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            "2XX": { "description": "It is done" },
            "default": { "$ref": refusal },
        },
    });
    if let Some((resource, on)) = route.access {
        operation["x-access"] =
            json!({ "resource": resource.to_string(), "operation": on.to_string() });
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_route_with_its_parameters() {
        let document = document();
        for route in ROUTES {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][route.path][method];
            let parameters = operation["parameters"].as_array().unwrap();
            let named = route.path.matches('{').count() + route.parameters.len();
            assert_eq!(parameters.len(), named, "{}", route.path);
            for parameter in parameters.iter().filter_map(|one| one["$ref"].as_str()) {
                let pointer = parameter.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{parameter}");
            }
        }
    }
}
