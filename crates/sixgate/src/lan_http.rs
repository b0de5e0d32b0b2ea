//! HTTP on addresses of LANs, which come and go with the plan.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use sixgate_linux::dns_socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;

/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(5);

/// A listener for each address that is wanted.
#[derive(Debug, Default)]
pub struct Listeners {
    tasks: JoinSet<()>,
    places: BTreeMap<SocketAddr, AbortHandle>,
}

impl Listeners {
    /// Ends the listeners of addresses that are not wanted any more, for each of which `ended` is called, and starts those
    /// that are missing.
    pub fn follow<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        wanted: &[SocketAddr],
        ended: impl Fn(&SocketAddr),
        listen: impl Fn(SocketAddr) -> F,
    ) {
        self.places.retain(|address, listener| {
            let stays = wanted.contains(address);
            if !stays {
                listener.abort();
                ended(address);
            }
            stays
        });
        for address in wanted {
            self.places.entry(*address).or_insert_with(|| self.tasks.spawn(listen(*address)));
        }
    }

    /// Waits until one panics, which takes the daemon along.
    pub async fn panicked(&mut self) -> JoinError {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_panic() => return error,
                Some(Ok(()) | Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// Listens until it is aborted. `problem` is called with what is wrong, and with `None` once nothing is.
pub async fn listen<F: Future<Output = std::io::Error>>(
    address: SocketAddr,
    problem: impl Fn(Option<String>),
    serve: impl Fn(TcpListener) -> F,
) {
    let mut backoff = Backoff::default();
    loop {
        let cause = match dns_socket::tcp(address, None) {
            Ok(listener) => {
                problem(None);
                backoff.succeeded();
                serve(listener).await.to_string()
            }
            Err(error) => error.to_string(),
        };
        problem(Some(cause));
        sleep(backoff.failed()).await;
    }
}

/// Answers the requests of one connection, for so long at most. How it ends is the client's affair.
pub async fn connection<F>(stream: TcpStream, longest: Duration, answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>>,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 << 10);
    let served = pin!(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
    let _ = timeout(longest, served).await;
}
