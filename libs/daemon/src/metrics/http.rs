//! `/metrics`, `/healthz` and `/readyz` over HTTP/1.1.
//!
//! As little as a scraper needs: GET and HEAD, one request a connection, at
//! most 8 KiB of it, five seconds for all, 32 connections at a time. More
//! connections wait in the kernel's backlog.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Registry;

const REQUEST_BYTES_MAX: usize = 8 * 1024;
const CONNECTIONS_MAX: usize = 32;
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whether the daemon can serve, with what else is to be told (may be empty); the error names
/// what is missing.
pub type Check = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the endpoint shows.
#[derive(Clone)]
pub struct Endpoint {
    pub registry: Registry,
    /// Alive at all; a failure means: restart it.
    pub healthy: Check,
    /// Ready for clients; false while loading or draining.
    pub ready: Check,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// Listens at an address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until `stop` is cancelled; then requests under way are cut.
pub async fn serve(listener: TcpListener, endpoint: Endpoint, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropping the set at the end cuts what is under way.
    let mut exchanges = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = exchanges.join_next(), if !exchanges.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let endpoint = endpoint.clone();
                exchanges.spawn(async move {
                    let exchange = exchange(stream, &endpoint);
                    if let Ok(Err(error)) = tokio::time::timeout(EXCHANGE_TIME_MAX, exchange).await
                    {
                        tracing::debug!(%error, "metrics request failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept for metrics failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn exchange(mut stream: TcpStream, endpoint: &Endpoint) -> io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() >= REQUEST_BYTES_MAX {
            return write_response(&mut stream, false, 431, "text/plain", "too long\n").await;
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let head_only = method == "HEAD";
    if method != "GET" && !head_only {
        return write_response(&mut stream, false, 405, "text/plain", "GET only\n").await;
    }
    let (status, kind, body) = respond(endpoint, target);
    write_response(&mut stream, head_only, status, kind, &body).await
}

fn respond(endpoint: &Endpoint, target: &str) -> (u16, &'static str, String) {
    let checked = |check: &Check| match check() {
        Ok(text) if text.is_empty() => (200, "text/plain", "ok\n".to_owned()),
        Ok(text) => (200, "text/plain", format!("{text}\n")),
        Err(problem) => (503, "text/plain", format!("{problem}\n")),
    };
    match target.split('?').next().unwrap_or_default() {
        "/metrics" => (200, "text/plain; version=0.0.4", endpoint.registry.render()),
        "/healthz" => checked(&endpoint.healthy),
        "/readyz" => checked(&endpoint.ready),
        _ => (
            404,
            "text/plain",
            "try /metrics, /healthz or /readyz\n".to_owned(),
        ),
    }
}

async fn write_response(
    stream: &mut TcpStream,
    head_only: bool,
    status: u16,
    kind: &str,
    body: &str,
) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let mut response = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    if !head_only {
        response.push_str(body);
    }
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn the_three_pages_are_served_and_others_refused() {
        let registry = Registry::new();
        registry.gauge("redrock_keys", "Keys.", &[]).set(5);
        let is_ready = Arc::new(AtomicBool::new(false));
        let ready = Arc::clone(&is_ready);
        let endpoint = Endpoint {
            registry,
            healthy: Arc::new(|| Ok(String::new())),
            ready: Arc::new(move || match ready.load(Ordering::Relaxed) {
                true => Ok(String::new()),
                false => Err("loading".into()),
            }),
        };
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, endpoint, stop.clone()));

        let page = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK") && page.ends_with("redrock_keys 5\n"));
        assert!(
            ask(address, "GET /healthz HTTP/1.0\r\n\r\n")
                .await
                .contains("200 OK")
        );
        let loading = ask(address, "GET /readyz HTTP/1.1\r\n\r\n").await;
        assert!(loading.starts_with("HTTP/1.1 503") && loading.ends_with("loading\n"));
        is_ready.store(true, Ordering::Relaxed);
        assert!(
            ask(address, "GET /readyz?x=1 HTTP/1.1\r\n\r\n")
                .await
                .contains("200 OK")
        );
        let head = ask(address, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(head.contains("200 OK") && head.ends_with("\r\n\r\n"));
        assert!(
            ask(address, "GET / HTTP/1.1\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 404")
        );
        assert!(
            ask(address, "POST /metrics HTTP/1.1\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 405")
        );
        // Exactly the limit, so that nothing unread turns the close into a reset.
        let long = "x".repeat(REQUEST_BYTES_MAX);
        assert!(ask(address, &long).await.starts_with("HTTP/1.1 431"));

        stop.cancel();
        server.await.unwrap();
    }
}
