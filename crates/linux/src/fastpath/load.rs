//! Objects into the kernel, one after the other: the loader reads the types of the whole kernel each time, some 20 MB in memory,
//! whether an object asks for them or not. A machine of 128 MiB has that once.
use std::sync::{Mutex, PoisonError};

use aya::{Ebpf, EbpfLoader};

use super::{FastPathError, refused};

/// Makes an object's maps; `configure` says how.
///
/// # Errors
/// The kernel refused.
pub(crate) fn load(object: &[u8], configure: impl FnOnce(&mut EbpfLoader<'static>)) -> Result<Ebpf, FastPathError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut loader = EbpfLoader::new();
    // Nothing in the programs depends on the kernel's own types.
    configure(loader.btf(None));
    let loaded = loader.load(object).map_err(|error| refused("maps cannot be made", &error));
    drop(loader);
    // SAFETY: what is freed goes back to the kernel; memory in use is not touched.
    unsafe { libc::malloc_trim(0) };
    loaded
}
