//! The page of sessions: who translates what, in the order that is asked for.
use core::cmp::Reverse;

use ratatui::text::Line;
use sixgate_engine::status::Session;

use super::format::{bytes, count, duration};
use super::page::{Item, harmless};
use super::sheet::Sheet;
use super::theme::Role;

/// From this width on there is room for how long it is idle, and its state.
const IDLE_FROM: usize = 110;
/// From this width on there is room for what stands outside for the client.
const MAPPED_FROM: usize = 120;

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Who has moved the most bytes, both ways.
    #[default]
    Bytes,
    /// Who was heard of last.
    Latest,
    /// By the client's address.
    Client,
    /// By the server's address.
    Server,
}

impl Order {
    const ALL: [Self; 4] = [Self::Bytes, Self::Latest, Self::Client, Self::Server];

    /// The order so many places further, round and round.
    pub(super) fn further(self, places: isize) -> Self {
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        Self::ALL[at.wrapping_add_signed(places).wrapping_add(Self::ALL.len()) % Self::ALL.len()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "most bytes first",
            Self::Latest => "latest first",
            Self::Client => "by client",
            Self::Server => "by server",
        }
    }

    fn sort(self, sessions: &mut [&Session]) {
        match self {
            Self::Bytes => sessions.sort_by_key(|session| Reverse(moved(session))),
            Self::Latest => sessions.sort_by_key(|session| session.idle),
            Self::Client => sessions.sort_by_key(|session| session.client),
            Self::Server => sessions.sort_by_key(|session| session.server),
        }
    }
}

/// What the daemon told of the sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// The sessions.
    pub(super) sessions: Vec<Session>,
    /// Whether there are more, which were not asked for.
    pub(super) more: bool,
}

/// The page.
pub(super) fn page(sheet: &Sheet<'_>, told: Option<&Told>, order: Order) -> Vec<Line<'static>> {
    let Some(told) = told else {
        return vec![sheet.rule("Sessions", &[Item::plain("asking")])];
    };
    let total = count(told.sessions.len() as u64);
    let mut state = vec![if told.more {
        Item::new(Role::Warning, format!("the first {total}"))
    } else {
        Item::plain(format!("{total} in all"))
    }];
    state.push(Item::plain(order.name()));
    let mut lines = vec![sheet.rule("Sessions", &state)];
    if told.sessions.is_empty() {
        lines.push(Line::from(" Nobody has a session."));
    }
    let mut sessions: Vec<&Session> = told.sessions.iter().collect();
    order.sort(&mut sessions);
    lines.extend(sheet.rows(sessions.into_iter().map(|session| row(session, sheet.columns)).collect()));
    lines
}

fn row(session: &Session, columns: usize) -> (String, Vec<Item>) {
    let mut items = vec![Item::plain(session.client.to_string()), Item::plain(format!("► {}", session.server))];
    if columns >= MAPPED_FROM {
        items.push(Item::plain(format!("as {}", session.mapped)));
    }
    items.push(Item::plain(bytes(moved(session))));
    if columns >= IDLE_FROM {
        items.push(Item::plain(format!("idle {}", duration(session.idle))));
        items.extend(session.state.as_deref().map(|state| Item::new(Role::Label, harmless(state))));
    }
    (harmless(&session.protocol), items)
}

/// Bytes both ways.
fn moved(session: &Session) -> u64 {
    session.v6_to_v4.bytes.saturating_add(session.v4_to_v6.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_go_round_both_ways() {
        assert_eq!(Order::Bytes.further(1), Order::Latest);
        assert_eq!(Order::Bytes.further(-1), Order::Server);
        assert_eq!(Order::Server.further(1), Order::Bytes);
    }
}
