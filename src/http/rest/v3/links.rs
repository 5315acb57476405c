//! How version 3 names what it tells of: by links, and by resource names.

use crate::engine::Engine;
use crate::http::answer::{self, Answer};
use crate::http::guard;
use crate::http::problem::Problem;
use crate::http::query::encoded;
use crate::http::request::Asked;
use crate::http::rest::json::Read;
use hyper::header::HeaderMap;
use hyper::{StatusCode, Uri};
use serde_json::{Map, Value, json};

/// The names of things in this cluster, as a client can ask for them.
pub struct Links {
    /// Up to the cluster's id.
    clusters: String,
    cluster_id: String,
}

/// A thing in the cluster: kind and name of each part of its path.
pub type Path<'a> = &'a [(&'static str, &'a str)];

impl Links {
    /// The links of a request that names no cluster.
    pub fn of(engine: &Engine, uri: &Uri, headers: &HeaderMap) -> Links {
        let prefix = if uri.path().starts_with("/kafka/") {
            "/kafka"
        } else {
            ""
        };
        Links {
            clusters: format!("{}{prefix}/v3/clusters", guard::base(uri, headers)),
            cluster_id: engine.cluster_id.to_string(),
        }
    }

    /// The links of a request.
    ///
    /// # Errors
    /// 404 where the first part of its path is another cluster.
    pub fn check(asked: &Asked) -> Result<Links, Problem> {
        let engine = &asked.services.engine;
        Links::of(engine, &asked.uri, &asked.headers).checked(&asked.params[0])
    }

    /// Likewise.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_read(read: &Read) -> Result<Links, Problem> {
        let engine = &read.services.engine;
        Links::of(engine, &read.uri, &read.headers).checked(&read.params[0])
    }

    fn checked(self, named: &str) -> Result<Links, Problem> {
        if named == self.cluster_id {
            return Ok(self);
        }
        let detail = format!("Cluster {named} cannot be found.");
        Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-cluster",
            detail,
        ))
    }

    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Where all clusters are.
    pub fn clusters(&self) -> &str {
        &self.clusters
    }

    /// Where something is: a path's names are in its order, `topics`, a topic, `configs` and so on.
    pub fn to(&self, path: &[&str]) -> String {
        let mut url = format!("{}/{}", self.clusters, self.cluster_id);
        for part in path {
            url.push('/');
            url.push_str(&encoded(part));
        }
        url
    }

    /// A link to something.
    pub fn related(&self, path: &[&str]) -> Value {
        json!({ "related": self.to(path) })
    }

    /// A thing's own names; `path` as for [`to`](Self::to). A thing of which there is one has an empty name.
    pub fn metadata(&self, path: &[&str], names: Path<'_>) -> Value {
        let mut name = format!("crn:///kafka={}", self.cluster_id);
        for (kind, part) in names {
            name.push('/');
            name.push_str(kind);
            if !part.is_empty() {
                name.push('=');
                name.push_str(part);
            }
        }
        json!({ "self": self.to(path), "resource_name": name })
    }

    /// The object of one thing: its kind, its names, and more.
    pub fn item(&self, kind: &str, path: &[&str], names: Path<'_>, more: Value) -> Value {
        let mut item = Map::new();
        item.insert("kind".to_owned(), kind.into());
        item.insert("metadata".to_owned(), self.metadata(path, names));
        item.insert("cluster_id".to_owned(), self.cluster_id.as_str().into());
        if let Value::Object(more) = more {
            item.extend(more);
        }
        item.into()
    }

    /// 200 with a list of things.
    pub fn list(&self, kind: &str, path: &[&str], data: Vec<Value>) -> Answer {
        list_at(kind, &self.to(path), data)
    }
}

/// 200 with a list that is at this address.
pub fn list_at(kind: &str, url: &str, data: Vec<Value>) -> Answer {
    shown(&json!({
        "kind": kind,
        "metadata": { "self": url, "next": null },
        "data": data,
    }))
}

/// 200 with an object.
pub fn shown(value: &Value) -> Answer {
    answer::of(StatusCode::OK, answer::JSON, value.to_string())
}

/// 204.
pub fn done() -> Answer {
    answer::of(StatusCode::NO_CONTENT, answer::JSON, "")
}
