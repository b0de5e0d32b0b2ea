//! `sixgate tui`: the console.
use std::path::Path;

/// Shows the router behind that control socket until the user leaves.
pub fn run(control: &Path) -> anyhow::Result<()> {
    anyhow::bail!("the console for {} is not part of this build", control.display())
}
