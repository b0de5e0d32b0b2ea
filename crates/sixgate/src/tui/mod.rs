//! `sixgate tui`: the console, on the appliance's screen and serial line and in anybody's terminal.
//!
//! The loop below owns the terminal and the state; a thread asks the daemon. Everything between them is plain values:
//! keys become commands, commands and observations change the state, the state becomes lines.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossterm::event::{self, Event};
use sixgate_linux::confine;
use tokio::signal::unix::{SignalKind, signal};

mod act;
mod app;
mod editor;
mod feed;
mod findings;
mod firewall;
mod format;
mod graph;
mod help;
mod keys;
mod log;
mod machine;
mod network;
mod output;
mod overview;
mod page;
mod rates;
mod resolver;
mod screen;
mod sessions;
mod sheet;
mod terminal;
mod theme;
mod translator;
mod typed;
mod view;
mod vms;
mod wizard;

#[cfg(test)]
mod tests;

use app::{Action, App};
use feed::Observation;
use terminal::{Screen, Terminal};
use theme::Theme;

use crate::control::Request;

/// How long a key may wait for its effect when nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// Shows the router behind that control socket until the user leaves; on the appliance's own console, for ever.
pub fn run(control: &Path, console: bool) -> anyhow::Result<()> {
    if console {
        // Whoever finds a hole in what is drawn finds no rights behind it; the socket is root's by its owner alone.
        confine::keep_capabilities(confine::NONE).context("capabilities stay")?;
        confine::refuse_what_nobody_needs().context("system calls stay")?;
    }
    let app = App::new(Theme::from_environment(), console, control.display().to_string());
    let mut terminal = Terminal::enter(console)?;
    let ended = watch_signals(terminal.screen())
        .context("cannot wait for signals")
        .and_then(|()| show(app, &mut terminal, control.to_owned()));
    if terminal::hung_up() {
        // Whatever failed, failed for that. There is nothing to tell it on: not even a destructor may try.
        std::mem::forget(terminal);
        return Ok(());
    }
    terminal::restore(terminal.screen());
    ended
}

/// The loop: draw what changed, wait for a key, listen to the daemon.
fn show(mut app: App, terminal: &mut Terminal, socket: PathBuf) -> anyhow::Result<()> {
    let (heard, observations) = mpsc::sync_channel(4);
    let (ask, requests) = mpsc::sync_channel(4);
    let (daemon, tell) = (socket.clone(), heard.clone());
    std::thread::spawn(move || feed::run(&socket, &heard, &requests));
    let mut looking = Looking { socket: daemon, heard: tell, stop: Arc::default() };

    let started = Instant::now();
    let mut drawn: Option<Instant> = None;
    loop {
        // Silence and questions age, so the page is drawn once a second even when nothing came.
        if drawn.is_none_or(|drawn| drawn.elapsed() >= feed::PERIOD) {
            terminal.draw(|frame| screen::draw(&mut app, frame))?;
            drawn = Some(Instant::now());
            if let Some(request) = app.wish() {
                // A full queue means that the same was asked a moment ago.
                let _ = ask.try_send(request);
            }
        }
        if terminal::hung_up() {
            return Ok(());
        }
        if event::poll(TICK)? {
            let action = match event::read()? {
                Event::Key(key) => app.handle_key(key),
                Event::Mouse(mouse) => app.handle_mouse(mouse),
                Event::Resize(_, _) | Event::FocusGained | Event::FocusLost | Event::Paste(_) => None,
            };
            match action {
                None => {}
                Some(Action::Quit) => return Ok(()),
                // A full queue means that the same was asked a moment ago.
                Some(Action::Send(request)) => drop(ask.try_send(request)),
                Some(Action::Look { number, request, file }) => looking.begin(number, request, file),
                Some(Action::EndLook) => looking.end(),
                Some(Action::Repaint) => terminal.repaint()?,
            }
            drawn = None;
        }
        app.handle_timeout(started.elapsed());
        loop {
            match observations.try_recv() {
                Ok(observation) => app.observe(observation),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => anyhow::bail!("the thread that asks the daemon has ended"),
            }
            drawn = None;
        }
    }
}

/// The action that goes on, on a thread of its own: at most one is shown.
struct Looking {
    socket: PathBuf,
    heard: SyncSender<Observation>,
    stop: Arc<AtomicBool>,
}

impl Looking {
    fn begin(&mut self, number: u64, request: Request, file: Option<String>) {
        self.end();
        self.stop = Arc::default();
        let (socket, heard, stop) = (self.socket.clone(), self.heard.clone(), self.stop.clone());
        std::thread::spawn(move || output::run(&socket, number, (&request, file.as_deref()), &stop, &heard));
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Leaves the terminal as it was when somebody ends the process, or when the terminal itself goes.
fn watch_signals(screen: Screen) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut hup, mut int) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let mut look = tokio::time::interval(feed::PERIOD);
            loop {
                tokio::select! {
                    _ = term.recv() => break,
                    _ = hup.recv() => break,
                    _ = int.recv() => break,
                    // The reader of events spins on a terminal that is gone, so somebody else has to look.
                    _ = look.tick() => if terminal::hung_up() { break },
                }
            }
        });
        terminal::restore(screen);
        std::process::exit(0);
    });
    Ok(())
}
