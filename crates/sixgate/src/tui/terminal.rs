//! The terminal: raw mode, its size, and leaving it as it was found.
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::style::ResetColor;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::layout::Rect;
use ratatui::{Frame, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// What a terminal that does not tell its size is taken for.
const FALLBACK: (u16, u16) = (80, 24);
/// Farther than any terminal reaches; the cursor stops at the last cell.
const FAR: u16 = 998;
/// On a line that others write to and people attach to late, everything is drawn again this often.
const REPAINT: Duration = Duration::from_secs(10);

/// Which sequences bring the terminal back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    /// The terminal has a second screen and shows the first one again afterwards.
    Alternate,
    /// There is one screen: it is cleared.
    Only,
}

/// A terminal in raw mode. Leaving it is explicit ([`restore`]); at a panic the hook that entering installs does it.
pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<io::Stdout>>,
    screen: Screen,
    /// The size does not come from the terminal's driver: nobody tells when it changes.
    serial: bool,
    painted: Instant,
}

impl Terminal {
    /// Takes the terminal over. `console` says that it is the appliance's own.
    pub(super) fn enter(console: bool) -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            anyhow::bail!("the console needs a terminal; `sixgate status` prints the same to a file or a pipe");
        }
        detach_input();
        // The Linux VT has no alternate screen, and whoever looks at a serial line may have attached a moment ago.
        let linux = std::env::var_os("TERM").is_some_and(|term| term == "linux");
        let serial = known_size().is_none();
        let screen = if console || linux || serial { Screen::Only } else { Screen::Alternate };
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore(screen);
            previous(panic);
        }));
        enable_raw_mode()?;
        let inner = Self::open(screen, serial);
        match inner {
            Ok(inner) => Ok(Self { inner, screen, serial: serial || console, painted: Instant::now() }),
            Err(error) => {
                restore(screen);
                Err(error.into())
            }
        }
    }

    fn open(screen: Screen, serial: bool) -> io::Result<ratatui::Terminal<CrosstermBackend<io::Stdout>>> {
        let mut out = io::stdout();
        if screen == Screen::Alternate {
            // Only where there is a terminal of one's own: on a serial line a mouse's sequences could be torn.
            execute!(out, EnterAlternateScreen, EnableMouseCapture)?;
        }
        if serial {
            probe_size();
        }
        execute!(out, Hide, ResetColor, Clear(ClearType::All), MoveTo(0, 0))?;
        let viewport = match known_size() {
            Some(_) => Viewport::Fullscreen,
            None => Viewport::Fixed(Rect::new(0, 0, FALLBACK.0, FALLBACK.1)),
        };
        ratatui::Terminal::with_options(CrosstermBackend::new(out), TerminalOptions { viewport })
    }

    /// Draws what changed, and everything once in a while where somebody else may have written over it.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let again = self.serial && self.painted.elapsed() >= REPAINT;
        let frame = self.inner.draw(draw)?;
        if again {
            // Every cell, without clearing first: nothing flickers.
            let (buffer, area) = (frame.buffer.clone(), frame.area);
            let cells = area.positions().filter_map(|at| buffer.cell(at).map(|cell| (at.x, at.y, cell)));
            let backend = self.inner.backend_mut();
            backend.draw(cells)?;
            Backend::flush(backend)?;
            self.painted = Instant::now();
        }
        Ok(())
    }

    /// Finds out the size again where the driver does not know it, and draws everything at the next call.
    pub(super) fn repaint(&mut self) -> io::Result<()> {
        if self.serial {
            probe_size();
        }
        // Clears and draws all; a size that changed is seen at the next call.
        self.inner.clear()
    }

    /// What [`restore`] needs to give the terminal back.
    pub(super) fn screen(&self) -> Screen {
        self.screen
    }
}

/// Whether whoever looked at the terminal is gone. Reading from it would then spin for ever.
pub(super) fn hung_up() -> bool {
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::NVAL)
}

/// Leaves the terminal as it was, as far as that can be done when things went wrong.
pub(super) fn restore(screen: Screen) {
    let mut out = io::stdout();
    // Each step is tried even when one before it failed; there is nobody left to tell.
    let _ = match screen {
        Screen::Alternate => execute!(out, DisableMouseCapture, ResetColor, Show, LeaveAlternateScreen),
        Screen::Only => execute!(out, ResetColor, Clear(ClearType::All), MoveTo(0, 0), Show),
    };
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// The size as the terminal's driver knows it. A serial line's driver says 0x0.
fn known_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Asks the terminal at the other end how far its cursor goes, for at most two seconds, and tells the driver: it knows
/// from then on. Without an answer the size is left as it is.
fn probe_size() {
    let asked = execute!(io::stdout(), MoveTo(FAR, FAR)).and_then(|()| cursor::position());
    let (columns, rows) = match asked {
        Ok((column, row)) => (column.saturating_add(1), row.saturating_add(1)),
        Err(_) if known_size().is_none() => FALLBACK,
        Err(_) => return,
    };
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // Refused only by what is no terminal; the caller draws 80x24 then.
    let _ = tcsetwinsize(rustix::stdio::stdout(), size);
}

/// Opens the terminal a second time for input, without blocking. The reader of events would otherwise wait for the rest
/// of a sequence that the line cut short, and the page would stand still; non-blocking output would lose lines.
fn detach_input() {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(input) = rustix::fs::open("/proc/self/fd/0", flags, Mode::empty()) {
        // Where that is refused the terminal is read as it is.
        let _ = rustix::stdio::dup2_stdin(&input);
    }
}
