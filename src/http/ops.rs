//! What operators and monitors ask: health, readiness, metrics, the page.

use super::answer::{self, Answer};
use super::problem::Problem;
use super::request::Asked;
use super::{Reports, Services, metrics as rendered, openapi, page as shown};
use crate::engine::reports;
use crate::io::reactor;
use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderValue};
use std::time::Duration;

/// A shard that does not answer for this long is not healthy.
const SHARD_TIMEOUT: Duration = Duration::from_secs(5);
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The page has a style of its own, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub async fn health(asked: Asked) -> Result<Answer, Problem> {
    let reached = reports::reach_all_shards(&asked.services.engine);
    Ok(match tokio::time::timeout(SHARD_TIMEOUT, reached).await {
        Ok(()) => answer::line(StatusCode::OK, "ok"),
        Err(_) => silent_shard(),
    })
}

pub async fn ready(asked: Asked) -> Result<Answer, Problem> {
    Ok(if asked.services.engine.is_stopping() {
        answer::line(StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else {
        answer::line(StatusCode::OK, "ready")
    })
}

pub async fn metrics(asked: Asked) -> Result<Answer, Problem> {
    let Some(reports) = reports(&asked.services).await else {
        return Ok(silent_shard());
    };
    let text = rendered::render(&asked.services.engine, &reports).await;
    Ok(answer::of(StatusCode::OK, METRICS, text))
}

pub async fn openapi(_: Asked) -> Result<Answer, Problem> {
    let document = openapi::document().to_string();
    Ok(answer::of(StatusCode::OK, answer::JSON, document))
}

pub async fn page(asked: Asked) -> Result<Answer, Problem> {
    let accept = asked.headers.get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("json")) {
        return Ok(answer::of(StatusCode::OK, answer::JSON, "{}"));
    }
    let Some(reports) = reports(&asked.services).await else {
        return Ok(silent_shard());
    };
    let html = shown::render(&asked.services.engine, &reports).await;
    let mut answer = answer::of(StatusCode::OK, answer::HTML, html);
    let policy = HeaderValue::from_static(PAGE_POLICY);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

fn silent_shard() -> Answer {
    answer::line(StatusCode::SERVICE_UNAVAILABLE, "a shard does not answer")
}

/// `None` when a shard does not answer in time.
async fn reports(services: &Services) -> Option<Reports> {
    // Many who ask at once are served one after the other, with others in between.
    reactor::take_turn().await;
    let reports = async {
        let mut shards = reports::of_all_shards(&services.engine).await;
        for report in &mut shards {
            report.mailbox_depth += services.coordinators.mailbox_depth(report.shard) as u64;
            report.mailbox_depth += services.instances.mailbox_depth(report.shard) as u64;
        }
        Reports {
            shards,
            lags: services.coordinators.groups.lag_reports().await,
        }
    };
    tokio::time::timeout(SHARD_TIMEOUT, reports).await.ok()
}
