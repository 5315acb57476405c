//! Fetch: reads what there is, or parks until the high watermark brings more.

use super::plan::{Asked, Plan, plan};
use super::respond::respond;
use super::{Request, Response};
use crate::engine::Engine;
use crate::engine::fetch::PartitionData;
use crate::engine::{limits, stats};
use crate::kafka::context::Context;
use crate::kafka::dispatch::{Answer, Outcome};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep_until;

/// Copies what is asked for. All else happens when the reply's turn has come, so that the requests
/// of a connection find their session in the order in which they were sent.
pub fn handle(context: &Context<'_>, request: &Request<'_>) -> Outcome {
    let version = context.version;
    let asked = Asked::new(request, version);
    let engine = Rc::clone(context.engine);
    let throttle_time_ms = context.throttle_time_ms;
    let mut writer = context.reply();
    Outcome::Later(Box::pin(async move {
        let mut response = answer(&engine, asked).await;
        response.throttle_time_ms = throttle_time_ms;
        super::encode(&response, version, &mut writer);
        Answer::of(writer)
    }))
}

async fn answer(engine: &Rc<Engine>, asked: Asked) -> Response<'static> {
    let response = match plan(engine, asked) {
        Ok(mut plan) => {
            let data = read(engine, &mut plan).await;
            respond(engine, plan, data)
        }
        Err(error) => Err(error),
    };
    response.unwrap_or_else(|error| Response {
        error_code: error.into(),
        ..Response::default()
    })
}

/// Reads until there is enough, something is wrong, or the time is up.
async fn read(engine: &Rc<Engine>, plan: &mut Plan) -> Vec<PartitionData> {
    let refused = plan.places.iter().any(Result::is_err);
    let at_once = refused || plan.reads.is_empty();
    let Some(deadline) = plan.deadline.filter(|_| !at_once && may_park(engine)) else {
        return engine.read(&plan.reads, plan.max_bytes, None).await;
    };
    let mut parked = None;
    loop {
        // A new one each time: partitions drop the watchers of the old one as dead.
        let wake = Arc::new(Notify::new());
        let data = engine.read(&plan.reads, plan.max_bytes, Some(&wake)).await;
        let bytes: usize = data.iter().map(PartitionData::len).sum();
        let failed = data.iter().any(|partition| partition.records.is_err());
        // What a limit kept back is there already: waiting would bring nothing.
        let limited = bytes > 0 && data.iter().any(|partition| partition.has_more);
        if failed || limited || bytes >= plan.min_bytes || engine.is_stopping() {
            return data;
        }
        parked.get_or_insert_with(|| Parked::new(engine));
        tokio::select! {
            () = wake.notified() => {}
            () = engine.stopped() => {}
            () = engine.memory_pressed.notified() => return data,
            () = over(plan.scope.turn_is_over()) => return data,
            () = sleep_until(deadline) => return data,
        }
    }
}

/// Returns when the session, if there is one, has moved on without this fetch.
async fn over(turn_is_over: Option<&mut oneshot::Receiver<()>>) {
    match turn_is_over {
        // Nothing is sent: the other end is dropped.
        Some(is_over) => drop(is_over.await),
        None => pending().await,
    }
}

/// Over the limit, or while memory is short, a fetch is answered with what there is; the client asks
/// again.
fn may_park(engine: &Engine) -> bool {
    if engine.stats.parked_fetches.get() as usize >= engine.config.parked_fetches_max {
        limits::PARKED_FETCHES.reached("a fetch is answered at once");
        return false;
    }
    !engine.memory_is_short()
}

/// Counts a parked fetch for as long as it lives.
struct Parked(Rc<Engine>);

impl Parked {
    fn new(engine: &Rc<Engine>) -> Parked {
        stats::add(&engine.stats.parked_fetches, 1);
        Parked(Rc::clone(engine))
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        stats::sub(&self.0.stats.parked_fetches, 1);
    }
}
