//! Switches forwarding on for the CLAT, remembers what was there before, and puts it back.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sixgate_engine::clat::plan::Forwarded;
use sixgate_linux::network::ApplyError;
use sixgate_linux::sysctl;

use crate::durable;

const V4: &str = "net/ipv4/conf/all/forwarding";
const V6: &str = "net/ipv6/conf/all/forwarding";
/// Links with their IPv6 switches.
const LINKS: &str = "/proc/sys/net/ipv6/conf";

/// What was there before, in the order in which it was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Before(Vec<(String, String)>);

/// The switches, and the file of what they were.
#[derive(Debug)]
pub(super) struct Forwarding {
    file: PathBuf,
}

impl Forwarding {
    pub(super) fn new(folder: &Path) -> Self {
        Self { file: folder.join("sysctls.json") }
    }

    /// Whether the host forwards IPv6 for this alone.
    pub(super) fn forwarded(&self) -> Forwarded {
        let ours = self.before().0.iter().any(|(path, _)| path == V6);
        if ours || sysctl::read(V6).is_ok_and(|value| value == "0") {
            Forwarded::OnlyForThis
        } else {
            Forwarded::Before
        }
    }

    /// Both families are forwarded from now on; links go on learning from advertisements, which the kernel ends for routers
    /// otherwise. What is changed is noted before.
    pub(super) fn switch_on(&self) -> Vec<ApplyError> {
        let mut changes = Vec::new();
        if sysctl::read(V6).is_ok_and(|value| value == "0") {
            changes.extend(learning_links().into_iter().map(|path| (path, "2")));
        }
        changes.extend([V6, V4].map(|path| (path.to_owned(), "1")));
        let mut before = self.before();
        for (path, value) in &changes {
            if let Ok(held) = sysctl::read(path)
                && held != *value
                && !before.0.iter().any(|(noted, _)| noted == path)
            {
                before.0.push((path.clone(), held));
            }
        }
        let noted = serde_json::to_vec(&before).map_err(io::Error::from);
        if let Err(error) = noted.and_then(|bytes| durable::replace(&self.file, &bytes)) {
            tracing::warn!("sysctls from before are not kept in {}: {error}", self.file.display());
        }
        changes.iter().filter_map(|(path, value)| sysctl::write(path, value).err()).collect()
    }

    /// What was changed is what it was before.
    pub(super) fn put_back(&self) {
        for (path, value) in self.before().0.iter().rev() {
            // A link that has gone took its switches along.
            if let Err(error) = sysctl::write(path, value) {
                tracing::debug!("{error}");
            }
        }
        if let Err(error) = durable::remove(&self.file) {
            tracing::warn!("{} stays: {error}", self.file.display());
        }
    }

    fn before(&self) -> Before {
        let bytes = fs::read(&self.file).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// Links that learn from advertisements unless they forward.
fn learning_links() -> Vec<String> {
    let links =
        fs::read_dir(LINKS).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let paths =
        links.filter(|name| name != "all" && name != "default").map(|name| format!("net/ipv6/conf/{name}/accept_ra"));
    paths.filter(|path| sysctl::read(path).is_ok_and(|value| value == "1")).collect()
}
