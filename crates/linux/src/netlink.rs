//! One rtnetlink connection: requests run side by side, dumps one at a time.
use std::future::Future;
use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::Handle;
use tokio::sync::Mutex;

/// A connection to the kernel's routing netlink, in the network namespace of the thread that opened it.
///
/// Clones share the connection; it closes when the last one goes.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(crate) handle: Handle,
    /// The kernel answers a second dump on the same socket with EBUSY while the first one runs.
    dump: Arc<Mutex<()>>,
}

impl Netlink {
    /// Opens the connection and spawns its driver on the current tokio runtime.
    ///
    /// # Errors
    /// The socket could not be opened.
    pub fn connect() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, dump: Arc::new(Mutex::new(())) })
    }

    /// Collects one dump while no other one runs.
    pub(crate) async fn dump<T, S, F>(&self, start: F) -> Result<Vec<T>, NetlinkError>
    where
        S: Stream<Item = Result<T, rtnetlink::Error>>,
        F: FnOnce(&Handle) -> S,
    {
        let _turn = self.dump.lock().await;
        Ok(start(&self.handle).try_collect().await?)
    }
}

/// The kernel refused a request, or the connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NetlinkError {
    /// The kernel's error number, when it was the kernel.
    pub errno: Option<i32>,
    text: String,
}

impl From<rtnetlink::Error> for NetlinkError {
    fn from(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => {
                let error = message.to_io();
                Self { errno: error.raw_os_error(), text: error.to_string() }
            }
            rtnetlink::Error::RequestFailed => {
                Self { errno: None, text: "the netlink connection is closed".to_owned() }
            }
            other => Self { errno: None, text: other.to_string() },
        }
    }
}

/// Whether a request that was answered with `errno` has reached its aim all the same.
pub(crate) async fn accept_errno(
    request: impl Future<Output = Result<(), rtnetlink::Error>>,
    accepted: &[i32],
) -> Result<(), NetlinkError> {
    match request.await.map_err(NetlinkError::from) {
        Err(error) if error.errno.is_some_and(|errno| accepted.contains(&errno)) => Ok(()),
        other => other,
    }
}
