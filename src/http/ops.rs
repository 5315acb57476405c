//! What operators and monitors ask: health, readiness, metrics, what is wrong.

use super::answer::{self, Answer};
use super::problem::Problem;
use super::request::Asked;
use super::{Reports, Services, metrics as rendered, openapi};
use crate::engine::{Engine, EngineError, reports};
use crate::findings::metrics::Metrics;
use crate::findings::{DISK_FREE_MIN, Disk, Evidence, LAG_SECONDS_MAX, checks};
use crate::io::{clock, reactor};
use hyper::StatusCode;
use serde_json::json;
use std::time::{Duration, Instant};

/// A shard that does not answer for this long is not healthy.
const SHARD_TIMEOUT: Duration = Duration::from_secs(5);
/// What grew since a look longer ago says nothing of now.
const LOOK_MAX: Duration = Duration::from_secs(60);
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

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

/// `GET /api/warnings`: what `millstream doctor` finds. What grows is what grew since somebody asked this shard last, if
/// that is not long ago.
pub async fn warnings(asked: Asked) -> Result<Answer, Problem> {
    let services = &asked.services;
    let engine = &services.engine;
    let Some(reports) = reports(services).await else {
        return Ok(silent_shard());
    };
    let page = rendered::render(engine, &reports).await;
    let disk = disk(engine).await;
    let knobs = engine.config.numbers();
    let before = services.metrics_before.take();
    let before = before.filter(|(asked, _)| asked.elapsed() < LOOK_MAX);
    let look = move || {
        let after = Metrics::parse(&page);
        let evidence = Evidence {
            has_metrics: true,
            before: before.map_or_else(|| after.clone(), |(_, metrics)| metrics),
            after,
            knobs,
            disks: vec![disk],
            now_seconds: clock::now_ms() as f64 / 1e3,
            lag_seconds_max: LAG_SECONDS_MAX,
            disk_free_min: DISK_FREE_MIN,
        };
        let found = checks::all(&evidence);
        Ok((found, evidence.after))
    };
    // The page may be long.
    let looked = engine.workers.read(look).await;
    let (mut found, after) = looked.map_err(|_| EngineError::Stopping)?;
    services.metrics_before.set(Some((Instant::now(), after)));
    found.sort_by_key(|finding| finding.severity);
    let body = json!({ "warnings": found });
    Ok(answer::of(
        StatusCode::OK,
        answer::JSON,
        format!("{body}\n"),
    ))
}

async fn disk(engine: &Engine) -> Disk {
    let node = engine.config.node_id;
    match reports::data_dir(engine).await {
        Ok(found) => Disk {
            node,
            path: found.path.to_string_lossy().into_owned(),
            usable_bytes: Some(found.volume.free_bytes),
            total_bytes: Some(found.volume.total_bytes),
            ..Disk::default()
        },
        Err(error) => Disk {
            node,
            path: engine.config.data_dir.to_string_lossy().into_owned(),
            error: Some(error.to_string()),
            ..Disk::default()
        },
    }
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
