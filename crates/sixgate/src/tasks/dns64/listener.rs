//! Listens on one address by one transport, and comes back after whatever kept it from doing so.
use std::io;
use std::net::SocketAddr;

use sixgate_engine::dns64::Transport;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_linux::dns_socket::{self, ListenError};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::front::Front;
use super::worker::Order;
use super::{Slice, streams};
use crate::backoff::Backoff;

/// One place to listen at.
pub(super) type Place = (SocketAddr, Transport);

/// Listens until it is aborted.
pub(super) async fn listen(place: Place, front: Front, slice: watch::Sender<Slice>) {
    let mut backoff = Backoff::default();
    loop {
        let failure = match serve(place, &front, &slice).await {
            Ok(cause) => {
                backoff.succeeded();
                ended(place, &cause)
            }
            Err(error) => unbound(place, &error),
        };
        slice.send_modify(|slice| {
            slice.listening.remove(&place);
            slice.problems.insert(place, failure);
        });
        sleep(backoff.failed()).await;
    }
}

/// Binds, and answers until that ends; then it tells why.
async fn serve(place: Place, front: &Front, slice: &watch::Sender<Slice>) -> Result<String, ListenError> {
    let listening = || {
        slice.send_modify(|slice| {
            slice.listening.insert(place);
            slice.problems.remove(&place);
        });
    };
    match place {
        (address, Transport::Udp) => {
            let sockets = dns_socket::udp(address, None, front.workers().len())?;
            let (failed, mut failures) = mpsc::channel(1);
            let seats = Seats { place, front };
            for (worker, socket) in front.workers().iter().zip(sockets) {
                worker.order(Order::Open(place, socket, failed.clone()));
            }
            drop(failed);
            listening();
            let failure = failures.recv().await;
            drop(seats);
            Ok(failure.map_or_else(|| "its workers have ended".to_owned(), |error| error.to_string()))
        }
        (address, Transport::Tcp) => {
            let socket = dns_socket::tcp(address, None)?;
            listening();
            Ok(streams::serve(socket, place, front).await.to_string())
        }
    }
}

/// The workers' sockets of one place, given up when dropped.
struct Seats<'a> {
    place: Place,
    front: &'a Front,
}

impl Drop for Seats<'_> {
    fn drop(&mut self) {
        for worker in self.front.workers() {
            worker.order(Order::Close(self.place));
        }
    }
}

fn unbound(place: Place, error: &ListenError) -> Finding {
    let code = if error.cause.kind() == io::ErrorKind::AddrInUse { "dns-port-busy" } else { "dns-not-listening" };
    finding(place, code, format!("the resolver {error}"), error.mend())
}

fn ended(place: Place, cause: &str) -> Finding {
    let text = format!("the resolver no longer listens there: {cause}");
    finding(place, "dns-not-listening", text, "nothing to do if this is short: it is started again".to_owned())
}

fn finding((address, transport): Place, code: &str, text: String, mend: String) -> Finding {
    let transport = match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    };
    Finding::new(Severity::Error, code, format!("{address} {transport}"), text, mend)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::Arc;

    use super::super::answers::{Answers, Rules};
    use super::super::fast_path::Offers;
    use super::super::worker::Worker;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_port_is_named_and_taken_once_it_is_free() {
        let other = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let place = (other.local_addr().unwrap(), Transport::Udp);
        let (slice, mut seen) = watch::channel(Slice::default());
        let (_rules, rules) = watch::channel(Rules::default());
        let (missed, _missed) = mpsc::channel(1);
        let worker = Worker::start(0, 1 << 20, missed, Offers::new().0, slice.clone()).unwrap();
        let front = Front::new(rules, Answers::new(1 << 20), Arc::new(vec![worker]), slice.clone());
        let task = tokio::spawn(listen(place, front, slice));
        seen.wait_for(|slice| slice.problems.contains_key(&place)).await.unwrap();
        assert_eq!(seen.borrow().problems[&place].code, "dns-port-busy");
        drop(other);
        seen.wait_for(|slice| slice.listening.contains(&place)).await.unwrap();
        assert!(seen.borrow().problems.is_empty());
        task.abort();
    }
}
