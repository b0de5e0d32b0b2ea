//! The demo on the terminal: interactive with the router's console, or as lines for a log.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::machines::Machines;
use super::screen::Screen;
use super::terminal::{self, Terminal};

/// Time between two looks at what no channel tells.
const TICK: Duration = Duration::from_millis(200);
/// The key that ends the demo at once: Ctrl-C.
const INTERRUPT: u8 = 0x03;
/// The key that has the router's console find out its size again: Ctrl-L.
const REPAINT: u8 = 0x0c;

enum Event {
    Console(Vec<u8>),
    Keys(Vec<u8>),
}

/// Shows the router's console until the router powers off.
pub(crate) fn watched(machines: &mut Machines) -> Result<()> {
    let interrupted = watch_signals()?;
    let (sender, events) = mpsc::channel();
    let (console, output) = mpsc::channel();
    let (keys, typed) = mpsc::channel();
    machines.router.console().attach(console);
    forward(output, sender.clone(), Event::Console)?;
    let terminal = Terminal::enter()?;
    terminal::read_keys(keys)?;
    forward(typed, sender, Event::Keys)?;

    let (columns, rows) = terminal.size();
    let mut screen = Screen::new(columns, rows);
    while machines.router.is_running() {
        machines.read_reports();
        let (columns, rows) = terminal.size();
        let line = with_hint(&machines.history.line(), usize::from(columns));
        terminal.write(&screen.draw(&[line, format!(" client: {}", machines.history.details())]))?;
        if screen.resize(columns, rows) {
            machines.router.console().write(&[REPAINT])?;
        }
        match events.recv_timeout(TICK) {
            Ok(Event::Console(bytes)) => {
                let answers = screen.take(&bytes);
                // A router that has just powered off needs no answers.
                let _ = machines.router.console().write(&answers);
            }
            Ok(Event::Keys(bytes)) if bytes.contains(&INTERRUPT) => bail!("interrupted"),
            Ok(Event::Keys(bytes)) => drop(machines.router.console().write(&bytes)),
            Err(RecvTimeoutError::Timeout) => {}
            // The console ended: the machine is about to.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
        }
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
    }
    Ok(())
}

/// A line that ends in the key to leave by, where there is room for it.
fn with_hint(line: &str, columns: usize) -> String {
    const HINT: &str = " Ctrl-C ends the demo ";
    let room = columns.saturating_sub(HINT.len() + 2);
    if line.chars().count() > room { format!(" {line}") } else { format!(" {line:room$} {HINT}") }
}

/// Waits until the client has succeeded, then powers the router off.
pub(crate) fn headless(machines: &mut Machines, deadline: Instant) -> Result<()> {
    let interrupted = watch_signals()?;
    let mut said = String::new();
    println!("both machines boot; the router's console is in {}", machines.router.console().log().display());
    loop {
        let succeeded = machines.read_reports();
        let line = machines.history.line();
        if line != said {
            println!("{line}");
            said = line;
        }
        if succeeded {
            break;
        }
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if Instant::now() > deadline {
            bail!("the client got no page in time");
        }
        machines.check()?;
        thread::sleep(TICK);
    }
    println!("powering the router off");
    machines.request_power_off()
}

fn forward<T: Send + 'static>(from: mpsc::Receiver<T>, to: mpsc::Sender<Event>, wrap: fn(T) -> Event) -> Result<()> {
    thread::Builder::new().name("forward".into()).spawn(move || {
        for item in from {
            if to.send(wrap(item)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// From now on these signals end the demo in order, so that machines and sockets go with it.
fn watch_signals() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_gives_way_to_a_long_line() {
        assert_eq!(with_hint("client: boots", 40), " client: boots     Ctrl-C ends the demo ");
        assert_eq!(with_hint("client: a long report", 40), " client: a long report");
    }
}
