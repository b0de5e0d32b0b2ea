//! What each kind of text looks like, with colours and without them.
use ratatui::style::{Color, Modifier, Style};

/// What a piece of text is. No meaning hangs on the look alone: every state is a word as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Values.
    Plain,
    /// Names of values.
    Label,
    /// Lines and separators.
    Frame,
    /// Titles and whatever else should be found first.
    Title,
    /// Something works.
    Good,
    /// Something does not work as configured.
    Warning,
    /// Something is down.
    Bad,
    /// The first and the last line of the screen.
    Bar,
    /// Columns of a graph.
    Graph,
    /// Title of the page that is open.
    Open,
    /// Keys in the last line.
    Key,
    /// The state in a word, when it is good.
    BarGood,
    /// The state in a word, when something does not work.
    BarWarning,
    /// The state in a word, when something is down.
    BarBad,
}

/// Terminals whose font is known to have code page 437's glyphs, and no more.
const PLAIN_FONTS: [&str; 4] = ["linux", "vt220", "vt100", "dumb"];

/// Sixteen colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    color: bool,
    eighths: bool,
}

impl Theme {
    /// With colours, or in monochrome.
    pub(super) const fn new(color: bool) -> Self {
        Self { color, eighths: false }
    }

    /// With colours unless the environment asks for none: <https://no-color.org>. The appliance calls its serial lines
    /// vt220, as getty does; what is attached to them has colours.
    pub(super) fn from_environment() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let monochrome = std::env::var_os("TERM").is_some_and(|term| term == "dumb" || term == "vt100");
        let theme = Self::new(!refused && !monochrome);
        let plain_font = std::env::var("TERM").map_or(true, |term| PLAIN_FONTS.contains(&term.as_str()));
        if plain_font { theme } else { theme.with_eighths() }
    }

    /// With graphs that are finer than code page 437 allows.
    pub(super) const fn with_eighths(self) -> Self {
        Self { eighths: true, ..self }
    }

    /// Whether the font is taken to have the blocks from one eighth to seven.
    pub(super) const fn has_eighths(self) -> bool {
        self.eighths
    }

    /// The look of a role.
    pub(super) fn style(self, role: Role) -> Style {
        let plain = Style::new();
        if self.color {
            match role {
                Role::Plain => plain,
                Role::Label => plain.fg(Color::Cyan),
                Role::Graph => plain.fg(Color::Cyan),
                Role::Open => plain.add_modifier(Modifier::REVERSED | Modifier::BOLD),
                Role::Frame => plain.fg(Color::Blue),
                Role::Title => plain.add_modifier(Modifier::BOLD),
                Role::Good => plain.fg(Color::Green),
                Role::Warning => plain.fg(Color::Yellow).add_modifier(Modifier::BOLD),
                Role::Bad => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
                Role::Bar => plain.fg(Color::White).bg(Color::Blue),
                Role::Key => plain.fg(Color::Yellow).bg(Color::Blue).add_modifier(Modifier::BOLD),
                Role::BarGood => plain.fg(Color::Black).bg(Color::Green),
                Role::BarWarning => plain.fg(Color::Black).bg(Color::Yellow),
                Role::BarBad => plain.fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD),
            }
        } else {
            match role {
                Role::Plain | Role::Label | Role::Frame | Role::Good | Role::Graph => plain,
                Role::Title | Role::Warning => plain.add_modifier(Modifier::BOLD),
                Role::Bad => plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
                Role::Bar => plain.add_modifier(Modifier::REVERSED),
                Role::Key | Role::Open | Role::BarGood | Role::BarWarning | Role::BarBad => {
                    plain.add_modifier(Modifier::REVERSED | Modifier::BOLD)
                }
            }
        }
    }
}
