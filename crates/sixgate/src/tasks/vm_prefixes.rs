//! Tells VMs their container prefixes over HTTP on a LAN, and again as soon as they change: `GET /v1/containers`.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::status;
use sixgate_engine::vm_prefixes::{VmPrefixes, VmPrefixesPlan};
use sixgate_linux::netlink::Netlink;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::lan_http::{self, Listeners};
use crate::tasks::network;
use crate::wiring::Desired;

/// Connections at one address; the next one waits.
const MAX_CONNECTIONS: usize = 256;
/// Connections of one host; the next one is closed.
const MAX_OF_ONE: usize = 4;
/// How long an answer is held back at most while nothing changes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long a connection may last.
const CONNECTION: Duration = Duration::from_secs(900);
const PATH: &str = "/v1/containers";

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Whether a ruleset is in force.
    pub network: watch::Receiver<network::Slice>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// Who has asked.
    pub vms: BTreeMap<String, status::VmHook>,
    /// What is wrong, by address.
    pub problems: BTreeMap<SocketAddr, Finding>,
}

/// What a connection needs.
#[derive(Clone)]
struct Source {
    desired: watch::Receiver<Desired>,
    slice: watch::Sender<Slice>,
}

/// Runs until the plan's sender is gone. It listens only while a ruleset keeps the uplink out.
pub async fn run(mut ends: Ends) {
    let mut listeners = Listeners::default();
    let source = Source { desired: ends.desired.clone(), slice: ends.slice.clone() };
    loop {
        let desired = ends.desired.borrow_and_update().clone();
        let guarded = ends.network.borrow_and_update().ruleset.is_some();
        let plan = desired.plan().filter(|_| guarded).and_then(|plan| plan.vm_prefixes.as_ref());
        let wanted = plan.map(|plan| plan.listen.clone()).unwrap_or_default();
        listeners.follow(
            &wanted,
            |address| ends.slice.send_modify(|slice| drop(slice.problems.remove(address))),
            |address| listen(address, source.clone()),
        );
        tokio::select! {
            changed = ends.desired.changed() => if changed.is_err() { return },
            changed = ends.network.changed() => if changed.is_err() { return },
            error = listeners.panicked() => return tracing::error!("the VMs' listener ended: {error}"),
        }
    }
}

async fn listen(address: SocketAddr, source: Source) {
    let problem = |cause: Option<String>| {
        let finding = cause.map(|cause| not_listening(address, &cause));
        source.slice.send_modify(|slice| {
            drop(match finding {
                Some(finding) => slice.problems.insert(address, finding),
                None => slice.problems.remove(&address),
            });
        });
    };
    lan_http::listen(address, problem, |listener| serve(listener, source.clone())).await;
}

fn not_listening(address: SocketAddr, cause: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        "vm-prefixes-not-listening",
        address.to_string(),
        format!("VMs are not told their prefixes: {cause}"),
        "stop whoever has the port, or set another `vm_prefixes.port`; it is tried again by itself",
    )
}

/// Accepts until the kernel refuses to, and tells why. No host keeps the others out.
async fn serve(listener: TcpListener, source: Source) -> std::io::Error {
    let mut connections = JoinSet::new();
    let mut held: BTreeMap<IpAddr, usize> = BTreeMap::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let count = held.entry(peer.ip()).or_default();
                    if *count >= MAX_OF_ONE {
                        continue;
                    }
                    *count += 1;
                    let source = source.clone();
                    connections.spawn(async move {
                        let answered = move |request| answer(request, peer.ip(), source.clone());
                        lan_http::connection(stream, CONNECTION, answered).await;
                        peer.ip()
                    });
                }
                Err(error) => return error,
            },
            Some(ended) = connections.join_next() => if let Ok(peer) = ended
                && let Some(count) = held.get_mut(&peer)
            {
                *count -= 1;
                if *count == 0 {
                    held.remove(&peer);
                }
            }
        }
    }
}

async fn answer(request: Request<Incoming>, peer: IpAddr, source: Source) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != PATH || request.method() != Method::GET {
        return Ok(plain(StatusCode::NOT_FOUND, "prefixes are at /v1/containers, by GET\n"));
    }
    let (after, wait) = parameters(request.uri().query().unwrap_or_default());
    let until = Instant::now() + wait;
    let Source { mut desired, slice } = source;
    loop {
        let plan = desired.borrow_and_update().plan().and_then(|plan| plan.vm_prefixes.clone());
        let Some(plan) = plan else { return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "there is no plan\n")) };
        let Some(vm) = identify(&plan, peer).await else {
            return Ok(plain(StatusCode::FORBIDDEN, "this is no VM of the router's configuration\n"));
        };
        if vm.revision() != after || Instant::now() >= until {
            note(&slice, &vm);
            return Ok(told(&vm));
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() {
                return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "the router is ending\n"));
            },
            () = sleep_until(until) => {}
        }
    }
}

/// `after`, the revision that the VM knows, and `wait`, for how many seconds to wait for another one.
fn parameters(query: &str) -> (&str, Duration) {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (mut after, mut wait) = ("", Duration::ZERO);
    for (name, value) in pairs.by_ref() {
        match name {
            "after" => after = value,
            "wait" => wait = value.parse().map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_WAIT),
            _ => {}
        }
    }
    (after, wait)
}

/// Who asks: the kernel has just answered that host, so that its neighbour cache knows the sender.
async fn identify(plan: &VmPrefixesPlan, peer: IpAddr) -> Option<VmPrefixes> {
    let peer: Ipv6Addr = match peer {
        IpAddr::V6(peer) => peer,
        IpAddr::V4(_) => return None,
    };
    let neighbours = Netlink::connect().ok()?.neighbours().await.ok()?;
    let known = neighbours.iter().find(|it| it.link == plan.link && it.address == peer);
    plan.vm(peer, known.and_then(|it| it.mac)).cloned()
}

fn note(slice: &watch::Sender<Slice>, vm: &VmPrefixes) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    slice.send_modify(|slice| {
        let hook = slice.vms.entry(vm.name.clone()).or_default();
        hook.answers += 1;
        hook.last = now;
        hook.revision = vm.revision();
    });
}

fn told(vm: &VmPrefixes) -> Response<Full<Bytes>> {
    let text = serde_json::json!({
        "vm": vm.name,
        "revision": vm.revision(),
        "containers": vm.containers,
        "retired": vm.retired,
    });
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn plain(code: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_says_what_it_knows_and_how_long_it_waits() {
        assert_eq!(parameters("after=0123&wait=60"), ("0123", Duration::from_secs(60)));
        assert_eq!(parameters("wait=99999&x=y"), ("", LONGEST_WAIT));
        assert_eq!(parameters("wait=-1"), ("", Duration::ZERO));
        assert_eq!(parameters(""), ("", Duration::ZERO));
    }
}
