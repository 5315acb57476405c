//! The table of routes: method, path, what answers it. docs/http.md shows the same table.

use super::activity::Activity;
use super::answer::{self, Answer};
use super::problem::Problem;
use super::query::{self, Query};
use super::request::Asked;
use super::rest::error::Version;
use super::rest::{self, v2, v3};
use super::{Services, groups, guard, keys, next, ops, page, produce, producers, read, topics};
use crate::access::{Caller, Operation, Resource};
use crate::io::rate_limited::{self, RateLimited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

/// At most one line a second about requests that were refused.
static REFUSED: RateLimited = RateLimited::new(rate_limited::REFUSALS);

/// One line of the table.
pub struct Route {
    pub method: Method,
    /// In `matchit`'s words: `{name}` is a part of the path.
    pub path: &'static str,
    /// What it does, for docs/http.md and OpenAPI.
    pub about: &'static str,
    /// What it is done to, and what that is; `None` where everybody may.
    pub access: Option<(Resource, Operation)>,
    /// The parameters that it takes; [`PARAMETERS`] says what they are.
    pub parameters: &'static [&'static str],
    pub dialect: Dialect,
    /// Method and path, as metrics name them.
    label: &'static str,
    answer: fn(Asked) -> Answering,
}

/// Whose clients a route is for: what its refusals look like, and whether it minds parameters that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Our own: problems as RFC 9457 has them, and an unknown parameter is a mistake.
    Native,
    /// Those of the REST proxy's version 2: a code and a message, in the type that is accepted. Unknown parameters
    /// are ignored, as there.
    V2,
    /// Version 3: the same in JSON.
    V3,
}

/// Whose GET takes records away: an older protocol has it so. HEAD, which changes nothing, is refused there.
const TAKES: &str = "/consumers/{group}/instances/{instance}/records";

impl Route {
    fn takes(&self) -> bool {
        self.path == TAKES
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Problem>>>>;

macro_rules! routes {
    ($($method:ident $path:literal $($dialect:ident)? [$($parameter:ident)*] $($resource:ident $operation:ident)?, $handler:path, $about:literal;)*) => {
        /// All routes. GET answers HEAD too.
        pub static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            about: $about,
            access: access!($($resource $operation)?),
            parameters: &[$(stringify!($parameter)),*],
            dialect: dialect!($($dialect)?),
            label: concat!(stringify!($method), " ", $path),
            answer: |asked| Box::pin($handler(asked)),
        }),*];
    };
}

macro_rules! dialect {
    () => {
        Dialect::Native
    };
    ($dialect:ident) => {
        Dialect::$dialect
    };
}

macro_rules! access {
    () => {
        None
    };
    ($resource:ident $operation:ident) => {
        Some((Resource::$resource, Operation::$operation))
    };
}

routes! {
    GET "/" [], page::html, "The page for a browser. `{}` where JSON is asked for.";
    GET "/page.css" [], page::css, "Its style.";
    GET "/page.js" [], page::script, "Its script.";
    GET "/healthz" [], ops::health, "200 while every shard answers.";
    GET "/readyz" [], ops::ready, "200 while the broker takes requests.";
    GET "/openapi.json" [], ops::openapi, "This table, as OpenAPI 3.1 has it.";
    GET "/metrics" [] Cluster Describe, ops::metrics, "Metrics in Prometheus' text format.";
    POST "/t/{topic}" [key partition timestamp acks split] Topic Write, produce::post, "Stores the body as one record, or as many.";
    GET "/t/{topic}" [from partition max wait key grep header follow] Topic Read, read::many, "Reads records, the newest ten unless asked otherwise.";
    GET "/t/{topic}/{partition}/{offset}" [] Topic Read, read::one, "The value of one record, as it is.";
    GET "/t/{topic}/keys" [prefix from partition max follow] Topic Read, keys::all, "The newest record of each key, and with `follow` what changes.";
    GET "/t/{topic}/keys/{key}" [partition max_age] Topic Read, keys::one, "The newest value of a key, with its version as ETag.";
    DELETE "/t/{topic}" [before] Topic Delete, topics::delete_records, "Deletes the records before offsets.";
    GET "/api/topics" [] Topic Describe, topics::list, "All topics.";
    GET "/api/topics/{topic}" [] Topic Describe, topics::describe, "A topic: its partitions, and the configs that are its own.";
    PUT "/api/topics/{topic}" [] Topic Create, topics::put, "Creates a topic, unless it is there as the body says.";
    PATCH "/api/topics/{topic}" [] Topic AlterConfigs, topics::patch, "More partitions, other configs.";
    GET "/api/topics/{topic}/configs" [] Topic DescribeConfigs, topics::configs, "Every config that holds for a topic.";
    DELETE "/api/topics/{topic}" [confirm] Topic Delete, topics::delete, "Deletes a topic, with `?confirm=` and its name.";
    GET "/topics" V2 [] Topic Describe, v2::topics::list, "REST Proxy v2: the names of all topics.";
    GET "/topics/{topic}" V2 [] Topic Describe, v2::topics::one, "REST Proxy v2: a topic, its configs and partitions.";
    POST "/topics/{topic}" V2 [] Topic Write, v2::produce::to_topic, "REST Proxy v2: stores records.";
    GET "/topics/{topic}/partitions" V2 [] Topic Describe, v2::topics::partitions, "REST Proxy v2: a topic's partitions.";
    GET "/topics/{topic}/partitions/{partition}" V2 [] Topic Describe, v2::topics::partition, "REST Proxy v2: one partition.";
    POST "/topics/{topic}/partitions/{partition}" V2 [] Topic Write, v2::produce::to_partition, "REST Proxy v2: stores records in one partition.";
    GET "/topics/{topic}/partitions/{partition}/offsets" V2 [] Topic Describe, v2::topics::offsets, "REST Proxy v2: where a partition begins and ends.";
    GET "/topics/{topic}/partitions/{partition}/records" V2 [include max_bytes offset timeout] Topic Read, v2::read::partition, "HTTP Proxy of Redpanda: records of a partition.";
    GET "/brokers" V2 [] Cluster Describe, v2::topics::brokers, "REST Proxy v2: the ids of all brokers: of this one.";
    POST "/admin/topics" V2 [] Topic Create, v2::topics::create, "HTTP Bridge of Strimzi: creates a topic.";
    POST "/consumers/{group}" V2 [] Group Read, v2::consumers::create, "REST Proxy v2: creates a consumer instance.";
    DELETE "/consumers/{group}/instances/{instance}" V2 [] Group Read, v2::consumers::delete, "REST Proxy v2: deletes it.";
    POST "/consumers/{group}/instances/{instance}/subscription" V2 [] Group Read, v2::consumers::subscribe, "REST Proxy v2: it consumes topics, as a member of its group.";
    GET "/consumers/{group}/instances/{instance}/subscription" V2 [] Group Read, v2::consumers::subscription, "REST Proxy v2: the topics that it consumes.";
    DELETE "/consumers/{group}/instances/{instance}/subscription" V2 [] Group Read, v2::consumers::unsubscribe, "REST Proxy v2: it leaves its group.";
    POST "/consumers/{group}/instances/{instance}/assignments" V2 [] Group Read, v2::consumers::assign, "REST Proxy v2: it reads partitions that are named.";
    GET "/consumers/{group}/instances/{instance}/assignments" V2 [] Group Read, v2::consumers::assignments, "REST Proxy v2: the partitions that it reads.";
    GET "/consumers/{group}/instances/{instance}/records" V2 [include max_bytes timeout] Group Read, v2::consumers::records, "REST Proxy v2: the records that come next.";
    POST "/consumers/{group}/instances/{instance}/offsets" V2 [] Group Read, v2::offsets::commit, "REST Proxy v2: commits offsets, or all that was returned.";
    GET "/consumers/{group}/instances/{instance}/offsets" V2 [] Group Read, v2::offsets::offsets, "REST Proxy v2: the offsets that its group has committed.";
    POST "/consumers/{group}/instances/{instance}/positions" V2 [] Group Read, v2::offsets::seek, "REST Proxy v2: it goes on at offsets or times.";
    POST "/consumers/{group}/instances/{instance}/positions/beginning" V2 [] Group Read, v2::offsets::seek_to_beginning, "REST Proxy v2: it begins anew.";
    POST "/consumers/{group}/instances/{instance}/positions/end" V2 [] Group Read, v2::offsets::seek_to_end, "REST Proxy v2: it goes on with what comes.";
    GET "/v3/clusters" V3 [] Cluster Describe, v3::clusters::list, "REST Proxy v3: the cluster.";
    GET "/v3/clusters/{cluster}" V3 [] Cluster Describe, v3::clusters::one, "REST Proxy v3: the cluster.";
    GET "/v3/clusters/{cluster}/brokers" V3 [] Cluster Describe, v3::clusters::brokers, "REST Proxy v3: the broker.";
    GET "/v3/clusters/{cluster}/brokers/{broker}" V3 [] Cluster Describe, v3::clusters::broker, "REST Proxy v3: the broker.";
    GET "/v3/clusters/{cluster}/topics" V3 [] Topic Describe, v3::topics::list, "REST Proxy v3: all topics.";
    POST "/v3/clusters/{cluster}/topics" V3 [] Topic Create, v3::topics::create, "REST Proxy v3: creates a topic.";
    GET "/v3/clusters/{cluster}/topics/{topic}" V3 [] Topic Describe, v3::topics::one, "REST Proxy v3: a topic.";
    PATCH "/v3/clusters/{cluster}/topics/{topic}" V3 [] Topic Alter, v3::topics::alter, "REST Proxy v3: gives a topic more partitions.";
    DELETE "/v3/clusters/{cluster}/topics/{topic}" V3 [] Topic Delete, v3::topics::delete, "REST Proxy v3: deletes a topic.";
    GET "/v3/clusters/{cluster}/topics/{topic}/configs" V3 [] Topic DescribeConfigs, v3::configs::list, "REST Proxy v3: all configs of a topic.";
    GET "/v3/clusters/{cluster}/topics/{topic}/configs/{name}" V3 [] Topic DescribeConfigs, v3::configs::one, "REST Proxy v3: a config of a topic.";
    PUT "/v3/clusters/{cluster}/topics/{topic}/configs/{name}" V3 [] Topic AlterConfigs, v3::configs::set, "REST Proxy v3: sets a config of a topic.";
    DELETE "/v3/clusters/{cluster}/topics/{topic}/configs/{name}" V3 [] Topic AlterConfigs, v3::configs::reset, "REST Proxy v3: a config back to its default.";
    POST "/v3/clusters/{cluster}/topics/{topic}/configs:alter" V3 [] Topic AlterConfigs, v3::configs::alter, "REST Proxy v3: changes configs of a topic, all or none.";
    GET "/v3/clusters/{cluster}/topics/{topic}/partitions" V3 [] Topic Describe, v3::topics::partitions, "REST Proxy v3: a topic's partitions.";
    GET "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}" V3 [] Topic Describe, v3::topics::partition, "REST Proxy v3: a partition.";
    GET "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/offset" V3 [] Topic Describe, v3::topics::offset, "REST Proxy v3: where a partition begins and ends.";
    POST "/v3/clusters/{cluster}/topics/{topic}/records" V3 [] Topic Write, v3::produce::stream, "REST Proxy v3: stores records as they come.";
    POST "/v3/clusters/{cluster}/topics/{topic}/records:batch" V3 [] Topic Write, v3::produce::batch, "REST Proxy v3: stores up to 50 records.";
    GET "/v3/clusters/{cluster}/consumer-groups" V3 [] Group Describe, v3::groups::list, "REST Proxy v3: all consumer groups.";
    GET "/v3/clusters/{cluster}/consumer-groups/{group}" V3 [] Group Describe, v3::groups::one, "REST Proxy v3: a consumer group.";
    GET "/v3/clusters/{cluster}/consumer-groups/{group}/consumers" V3 [] Group Describe, v3::groups::consumers, "REST Proxy v3: the members of a group.";
    GET "/v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}" V3 [] Group Describe, v3::groups::consumer, "REST Proxy v3: a member of a group.";
    GET "/v3/clusters/{cluster}/consumer-groups/{group}/lag-summary" V3 [] Group Describe, v3::groups::lag_summary, "REST Proxy v3: how far a group is behind, in all.";
    GET "/v3/clusters/{cluster}/consumer-groups/{group}/lags" V3 [] Group Describe, v3::groups::all_lags, "REST Proxy v3: how far a group is behind in each partition.";
    GET "/v3/clusters/{cluster}/consumer-groups/{group}/lags/{topic}/partitions/{partition}" V3 [] Group Describe, v3::groups::lag, "REST Proxy v3: how far a group is behind in a partition.";
    GET "/api/warnings" [] Cluster Describe, ops::warnings, "What is wrong now, the worst first.";
    GET "/api/groups" [] Group Describe, groups::list, "How far each group is behind, in records and in seconds.";
    GET "/api/groups/{group}" [history] Group Describe, groups::describe, "A group: its state, its members, and how far it is behind.";
    GET "/api/groups/{group}/offsets" [] Group Describe, groups::offsets, "What a group has committed.";
    PUT "/api/groups/{group}/offsets" [] Group Read, groups::commit, "Commits offsets for a group without members.";
    POST "/api/groups/{group}/offsets" [] Group Read, groups::reset, "Has a group without members go on elsewhere; shows it with `dry_run`.";
    POST "/api/groups/{group}/next" [topic commit max wait lease from] Group Read, next::post, "Commits what `commit` names, and returns the records that follow.";
    POST "/api/producers" [] Cluster Write, producers::post, "Gives a producer id and an epoch.";
}

/// Every parameter of a route, and what it says. A name means the same everywhere.
pub static PARAMETERS: &[(&str, &str)] = &[
    (
        "acks",
        "`all` (unless said): answered when it is on stable storage; `1`: when it is appended",
    ),
    ("before", "partitions and offsets, as in `0:17,1:9`"),
    (
        "commit",
        "what an answer had as `commit`: up to there all is done",
    ),
    ("confirm", "the name of what is to be deleted, once more"),
    ("follow", "go on with what comes"),
    (
        "from",
        "`earliest`, `latest`, `-N`, an offset, a time, or what `Millstream-Next` said",
    ),
    ("grep", "only records whose key or value has this text"),
    (
        "header",
        "only records with this header, as in `trace`, or `trace:7` for its value too",
    ),
    ("history", "with how far it was behind in the last hour"),
    (
        "include",
        "`headers`, `timestamp`: what a read tells more of each record",
    ),
    ("key", "the key of the record, or of those that are read"),
    (
        "lease",
        "how long partitions are kept for a client that does not come back: `30s` unless said",
    ),
    ("max", "the most records"),
    ("max_age", "how old the answer may be, as in `5s`"),
    ("max_bytes", "the most bytes of records"),
    ("offset", "where to begin"),
    ("partition", "one partition"),
    ("prefix", "what keys begin with"),
    ("split", "the body is many records: `lines` or `json`"),
    (
        "timeout",
        "milliseconds to wait for a record where there is none yet, at most 60,000",
    ),
    (
        "timestamp",
        "milliseconds since 1970, or a time as in `2026-01-31T10:00:00Z`",
    ),
    ("topic", "the topic"),
    (
        "wait",
        "how long to wait for a record where there is none yet: `500ms`, `5s`",
    ),
];

/// The routes of a path, by method.
type Methods = BTreeMap<&'static str, &'static Route>;

/// The routes by path.
pub struct Router(matchit::Router<Methods>);

impl Default for Router {
    fn default() -> Router {
        let mut by_path: BTreeMap<&str, Methods> = BTreeMap::new();
        for route in ROUTES {
            let methods = by_path.entry(route.path).or_default();
            methods.insert(method_name(&route.method), route);
        }
        let mut router = matchit::Router::new();
        for (path, methods) in by_path {
            let inserted = router.insert(path, methods);
            inserted.expect("no two paths of the table contradict each other");
        }
        Router(router)
    }
}

impl Router {
    /// Answers a request, whatever it is.
    pub async fn answer(
        &self,
        services: &Rc<Services>,
        caller: &Caller,
        activity: &Activity,
        request: Request<Incoming>,
    ) -> Answer {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let v2_kind = rest::error::kind_accepted(request.headers());
        let answered = self.routed(services, activity, request).await;
        let mut answer = answered.unwrap_or_else(|problem| {
            services.engine.stats.error(problem.kind);
            if let Some(kept_back) = REFUSED.admit() {
                tracing::warn!(peer = %caller.address, %method, path = uri.path(), problem = problem.kind,
                    kept_back, "refused a request over HTTP: {problem}");
            }
            match self.dialect(&method, uri.path()) {
                Dialect::Native => problem.answer(),
                Dialect::V2 => rest::error::answer(&problem, Version::V2, v2_kind),
                Dialect::V3 => rest::error::answer(&problem, Version::V3, answer::JSON),
            }
        });
        answer.body_mut().touch(activity);
        answer::protect(&mut answer);
        answer
    }

    /// What a path's methods are, and the parts of it that the table names.
    fn find<'p>(&self, path: &'p str) -> Option<(&Methods, matchit::Params<'_, 'p>)> {
        let path = without_prefix(path);
        if let Ok(found) = self.0.at(path) {
            return Some((found.value, found.params));
        }
        // The clients of REST proxies may end a path with a slash.
        let found = self.0.at(path.strip_suffix('/')?).ok()?;
        let is_proxys = found
            .value
            .values()
            .any(|route| route.dialect != Dialect::Native);
        is_proxys.then_some((found.value, found.params))
    }

    /// Whose refusals a request gets; where there is no such path, those of the paths that begin like it.
    fn dialect(&self, method: &Method, path: &str) -> Dialect {
        let first = |path: &'_ str| path.split('/').nth(1).map(str::to_owned);
        let route = match self.find(path) {
            Some((known, _)) => known
                .get(method.as_str())
                .or(known.values().next())
                .copied(),
            None => {
                let path = without_prefix(path);
                ROUTES.iter().find(|route| first(route.path) == first(path))
            }
        };
        route.map_or(Dialect::Native, |route| route.dialect)
    }

    async fn routed(
        &self,
        services: &Rc<Services>,
        activity: &Activity,
        request: Request<Incoming>,
    ) -> Result<Answer, Problem> {
        let (head, body) = request.into_parts();
        guard::check(
            &services.engine.config,
            &head.method,
            &head.uri,
            &head.headers,
        )?;
        let path = head.uri.path();
        let Some((methods, params)) = self.find(path) else {
            let detail = format!("there is nothing at {path}; docs/http.md lists what there is");
            return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-path", detail));
        };
        let is_head = head.method == Method::HEAD;
        let method = if is_head { Method::GET } else { head.method };
        let Some(route) = methods
            .get(method.as_str())
            .filter(|route| !(is_head && route.takes()))
        else {
            return not_allowed(&method, methods);
        };
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        if route.dialect == Dialect::Native {
            query.has_only(route.parameters)?;
        }
        let params = params.iter().map(|(_, value)| query::decoded(value));
        let asked = Asked {
            services: Rc::clone(services),
            activity: activity.clone(),
            params: params.collect::<Result<_, _>>()?,
            query,
            uri: head.uri.clone(),
            headers: head.headers,
            body,
        };
        let began = Instant::now();
        let answered = (route.answer)(asked).await;
        let stats = &services.engine.stats;
        stats.request(route.label, began.elapsed());
        answered
    }
}

/// The paths of version 3 are also under `/kafka`, as where the proxy is a part of a broker.
fn without_prefix(path: &str) -> &str {
    let rest = path.strip_prefix("/kafka");
    rest.filter(|rest| rest.starts_with("/v3/")).unwrap_or(path)
}

/// The methods that a path has: the answer to OPTIONS, and what is wrong with any other.
fn not_allowed(method: &Method, known: &Methods) -> Result<Answer, Problem> {
    let mut names: Vec<&str> = known.keys().copied().collect();
    if known.contains_key("GET") {
        names.push("HEAD");
    }
    let allowed = names.join(", ");
    if *method != Method::OPTIONS {
        return Err(Problem::method_not_allowed(&allowed));
    }
    let mut answer = answer::of(StatusCode::NO_CONTENT, answer::TEXT, "");
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        answer.headers_mut().insert(ALLOW, allowed);
    }
    Ok(answer)
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => unreachable!("the table has no other methods"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_by_its_method_and_path() {
        let router = Router::default();
        for route in ROUTES {
            let path = route.path.replace(['{', '}'], "");
            let found = router.0.at(&path).unwrap().value;
            assert!(std::ptr::eq(found[method_name(&route.method)], route));
        }
    }

    #[test]
    fn a_slash_at_the_end_is_a_proxys_clients() {
        let router = Router::default();
        assert!(router.find("/topics/t/").is_some());
        assert!(router.find("/kafka/v3/clusters/").is_some());
        assert!(router.find("/topics/t//").is_none());
        assert!(router.find("/api/topics/").is_none());
    }

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md");
    const BEGIN: &str = "<!-- routes: begin -->\n";
    const END: &str = "<!-- routes: end -->\n";

    #[test]
    fn every_parameter_is_explained_and_taken_by_a_route() {
        let mut taken: Vec<&str> = ROUTES
            .iter()
            .flat_map(|route| route.parameters)
            .copied()
            .collect();
        taken.sort_unstable();
        taken.dedup();
        let explained: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
        assert_eq!(taken, explained);
    }

    #[test]
    fn the_page_on_disk_has_this_table() {
        let mut table = String::from("| Method | Path | | Needs |\n|---|---|---|---|\n");
        for route in ROUTES {
            let Route {
                method,
                path,
                about,
                ..
            } = route;
            let needs = route
                .access
                .map(|(resource, operation)| format!("{operation} on {resource}"));
            let needs = needs.unwrap_or_default();
            table += &format!("| {method} | `{path}` | {about} | {needs} |\n");
        }
        let page = std::fs::read_to_string(DOCS).expect("docs/http.md");
        let (before, rest) = page.split_once(BEGIN).expect("the table's beginning");
        let (_, after) = rest.split_once(END).expect("the table's end");
        let expected = format!("{before}{BEGIN}\n{table}\n{END}{after}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(DOCS, expected).expect("write docs/http.md");
        } else {
            let stale = "docs/http.md is stale: UPDATE_DOCS=1 cargo test --lib http";
            assert!(page == expected, "{stale}");
        }
    }
}
