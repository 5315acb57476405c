//! Connections that speak HTTP: HTTP/2 with its preface, and the end of them in a clean stop.

use crate::support::{Broker, HANG, HttpReply, broker_with, eventually, http_exchange};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::{Read, Write};
use std::net::TcpStream;
use tokio::task::JoinSet;

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn connect(broker: &Broker) -> Sender {
    let stream = tokio::net::TcpStream::connect(broker.http).await.unwrap();
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = made.await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(mut sender: Sender, method: &str, path: String, body: String) -> Response<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .body(Full::from(body));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// More requests than are answered side by side, and bodies larger than a window.
#[tokio::test]
async fn a_client_that_begins_with_the_preface_of_http_2_is_served() {
    const REQUESTS: usize = 200;
    const LARGE: usize = 900_000;
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let sender = connect(&broker).await;
    // With it comes what the broker allows: no client sends more streams from then on.
    let health = ask(sender.clone(), "GET", "/healthz".to_owned(), String::new()).await;
    assert_eq!(health.status(), 200);
    let mut stored = JoinSet::new();
    for number in 0..REQUESTS {
        let body = format!("value {number}");
        stored.spawn(ask(sender.clone(), "POST", "/t/t".to_owned(), body));
    }
    stored.spawn(ask(
        sender.clone(),
        "POST",
        "/t/t".to_owned(),
        "x".repeat(LARGE),
    ));
    let mut offsets: Vec<i64> = Vec::new();
    while let Some(answer) = stored.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        offsets.push(answer["offset"].as_i64().unwrap());
    }
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(0..=REQUESTS as i64));

    let path = "/t/t?from=earliest&max=1000".to_owned();
    let read = ask(sender.clone(), "GET", path, String::new()).await;
    assert_eq!(read.status(), 200);
    let text = std::str::from_utf8(read.body()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), REQUESTS + 1);
    lines.retain(|line| line.len() < LARGE);
    assert!((0..REQUESTS).all(|number| lines.contains(&format!("value {number}").as_str())));

    // The same checks as for HTTP/1.1.
    let missing = ask(sender.clone(), "GET", "/nowhere".to_owned(), String::new()).await;
    assert_eq!(missing.status(), 404);
    let mut elsewhere = sender;
    let request = Request::get("http://evil.example/t/t").body(Full::default());
    let refused = elsewhere.send_request(request.unwrap()).await.unwrap();
    assert_eq!(refused.status(), 421);
}

#[tokio::test]
async fn a_follower_over_http_2_is_told_of_the_stop() {
    let (_dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let mut sender = connect(&broker).await;
    let request = Request::get("http://localhost/t/t?from=earliest")
        .header("Accept", "text/event-stream")
        .body(Full::default());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    broker.signal("TERM");
    let stream = answer.into_body().collect().await.unwrap().to_bytes();
    let stream = String::from_utf8(stream.to_vec()).unwrap();
    assert!(stream.contains("event: error"), "{stream}");
    assert_eq!(broker.wait().0.code(), Some(0));
}

/// What had begun to arrive before the stop is stored and answered; a connection without a request ends.
#[test]
fn a_clean_stop_answers_the_requests_that_are_under_way() {
    let (dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("t", 1);
    let open = || {
        let stream = TcpStream::connect(broker.http).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream
    };
    let (mut sending, mut waiting, mut idle) = (open(), open(), open());
    let head = "POST /t/t HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
    sending.write_all(head.as_bytes()).unwrap();
    let mut wanted = [0; 25];
    sending.read_exact(&mut wanted).unwrap();
    assert_eq!(&wanted, b"HTTP/1.1 100 Continue\r\n\r\n");
    sending.write_all(b"first").unwrap();
    let head = "GET /t/t?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n";
    waiting.write_all(head.as_bytes()).unwrap();
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    idle.write_all(head.as_bytes()).unwrap();
    let mut answered = [0; 12];
    idle.read_exact(&mut answered).unwrap();
    assert_eq!(&answered, b"HTTP/1.1 200");
    eventually("the requests are there", || {
        broker.metric("millstream_parked_fetches", "") > 0.0
    });

    broker.signal("TERM");
    let rest = |mut stream: TcpStream| {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    };
    rest(idle);
    assert_eq!(HttpReply::parse(&rest(waiting)).status, 200);
    sending.write_all(b"last!").unwrap();
    assert_eq!(HttpReply::parse(&rest(sending)).status, 200);
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0), "{log}");

    let broker = Broker::start(dir.path());
    let read = http_exchange(broker.http, "GET", "/t/t", &[], b"");
    assert_eq!(read.text(), "firstlast!\n");
}
