//! What the start took, from the kernel's first moment on: process 1 writes it down, the daemon adds its own part and tells it.
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use sixgate_engine::status::Milestone;
use sixgate_linux::pid1;

const FILE: &str = "/run/sixgate/timeline";

/// Begins with when the kernel handed over.
pub(super) fn begin(reached: Duration) {
    let _ = fs::create_dir_all(Path::new(FILE).parent().unwrap_or(Path::new("/")));
    write("init", reached);
}

/// This is reached now.
pub(super) fn mark(name: &str) {
    write(name, pid1::since_boot());
}

/// A timeline with a gap is better than a start that fails.
fn write(name: &str, at: Duration) {
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(FILE) {
        let _ = writeln!(file, "{name} {:.3}", at.as_secs_f64());
    }
}

/// What was written down.
pub(crate) fn read() -> Vec<Milestone> {
    parse(&fs::read_to_string(FILE).unwrap_or_default())
}

fn parse(text: &str) -> Vec<Milestone> {
    let milestone = |line: &str| {
        let (name, seconds) = line.rsplit_once(' ')?;
        Some(Milestone { name: name.to_owned(), seconds: seconds.parse().ok()? })
    };
    text.lines().filter_map(milestone).collect()
}

/// For people: `init 5.1 s, modules 7.2 s`.
pub(crate) fn line(timeline: &[Milestone]) -> String {
    timeline.iter().map(|one| format!("{} {:.1} s", one.name, one.seconds)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_garbled_is_left_out() {
        let read = parse("init 5.120\nmodules 7.250\n\nnonsense\nx y\n");
        assert_eq!(line(&read), "init 5.1 s, modules 7.2 s");
    }
}
