//! What the dialogue shows.
use std::time::Duration;

use ratatui::text::{Line, Span};
use sixgate_engine::status::Status;

use super::answers::FIELDS;
use super::{Step, TRIAL, Wizard};
use crate::tui::page::{clip, harmless, rule, wrap};
use crate::tui::theme::{Role, Theme};

/// Columns of the fields' names.
const NAME: usize = 14;

impl Wizard {
    /// The lines.
    pub(in crate::tui) fn page(
        &self,
        theme: Theme,
        columns: usize,
        status: Option<&Status>,
        now: Duration,
    ) -> Vec<Line<'static>> {
        let page = Page { theme, columns };
        let mut lines = match &self.step {
            Step::Welcome => self.welcome_page(page, status),
            Step::Cards => self.cards_page(page),
            Step::Addresses => self.addresses_page(page),
            Step::Plan { plan, .. } => {
                let mut lines = vec![page.title("Question 3 of 3: is this what you want?")];
                lines.extend(page.text(
                    Role::Plain,
                    "This is all that follows from your answers. Enter puts it into force, and it goes again by itself unless you confirm it.",
                ));
                lines.push(Line::default());
                lines.extend(plan.lines().map(|line| Line::from(format!(" {}", clip(&harmless(line), columns - 1)))));
                lines
            }
            Step::Trial { since } => {
                let left = TRIAL.saturating_sub(now.saturating_sub(*since)).as_secs();
                let mut lines = vec![page.title("It is in force. Does it work?")];
                lines.extend(page.text(
                    Role::Plain,
                    &format!(
                        "Look whether your virtual machines get addresses and reach what they should. y keeps this configuration, n goes back at \
                         once; without an answer it goes back by itself in {left} s."
                    ),
                ));
                lines.push(Line::default());
                lines.extend(machine(page, status));
                lines
            }
        };
        if let Some(complaint) = &self.complaint {
            let said = complaint.lines().flat_map(|line| page.text(Role::Bad, &harmless(line))).collect::<Vec<_>>();
            // Below the title, where it is seen on the smallest screen.
            lines.splice(1..1, said);
        }
        lines
    }

    /// The keys of the open question.
    pub(in crate::tui) fn legend(&self) -> Vec<(&'static str, &'static str)> {
        match &self.step {
            Step::Welcome => vec![("Enter", "answer three questions"), ("Esc", "leave it so")],
            Step::Cards => vec![("Enter", "go on"), ("↑↓", "choose"), ("u", "uplink"), ("l", "LAN"), ("Esc", "back")],
            Step::Addresses => vec![("Enter", "go on"), ("↑↓", "choose"), ("Del", "empty"), ("Esc", "back")],
            Step::Plan { .. } => vec![("Enter", "apply, on trial"), ("PgDn", "read on"), ("Esc", "back")],
            Step::Trial { .. } => vec![("y", "keep it"), ("n", "go back")],
        }
    }

    fn welcome_page(&self, page: Page, status: Option<&Status>) -> Vec<Line<'static>> {
        let mut lines = vec![page.title("First boot")];
        lines.extend(page.text(
            Role::Plain,
            "Nothing said how this router is to be configured, so it did what it could: the first card with a link is the uplink, the next one \
             serves your virtual machines. Nothing from outside is let in.",
        ));
        lines.push(Line::default());
        lines.extend(machine(page, status));
        lines.push(Line::default());
        lines.extend(page.text(
            Role::Title,
            "Enter asks three questions: which cards, which prefixes, and whether the plan is right. Esc leaves it as it is; W asks again.",
        ));
        lines
    }

    fn cards_page(&self, page: Page) -> Vec<Line<'static>> {
        let mut lines = vec![page.title("Question 1 of 3: which card is the uplink, which one the LAN's?")];
        lines.extend(page.text(
            Role::Plain,
            "The uplink leads to your provider, the LAN to your virtual machines. A card's link shows whether something is plugged in.",
        ));
        lines.push(Line::default());
        for (index, card) in self.cards.iter().enumerate() {
            let role = if self.answers.uplink.as_ref() == Some(&card.mac) {
                "uplink"
            } else if self.answers.lan.as_ref() == Some(&card.mac) {
                "LAN"
            } else {
                "-"
            };
            let chosen = index == self.chosen;
            let mark = if chosen { "►" } else { " " };
            let link = if card.link { "link up" } else { "no link" };
            let text = format!(" {mark} {:<16} {:<19} {link:<9} {role}", harmless(&card.name), harmless(&card.mac));
            let look = if chosen { Role::Title } else { Role::Plain };
            lines.push(Line::from(Span::styled(clip(&text, page.columns), page.theme.style(look))));
        }
        if self.cards.len() < 2 {
            lines.extend(page.text(Role::Warning, "A router needs two cards; give this machine a second one."));
        }
        lines
    }

    fn addresses_page(&self, page: Page) -> Vec<Line<'static>> {
        let mut lines = vec![page.title("Question 2 of 3: which addresses and prefixes?")];
        lines.extend(
            page.text(
                Role::Plain,
                "As they stand they are learnt from your provider. Write over what you know better.",
            ),
        );
        lines.push(Line::default());
        for (index, (name, _)) in FIELDS.iter().enumerate() {
            let chosen = index == self.chosen;
            let mark = if chosen { "►" } else { " " };
            let cursor = if chosen { "_" } else { "" };
            let text = format!(" {mark} {name:<NAME$} {}{cursor}", harmless(self.answers.field(index)));
            let look = if chosen { Role::Title } else { Role::Plain };
            lines.push(Line::from(Span::styled(clip(&text, page.columns), page.theme.style(look))));
        }
        lines.push(Line::default());
        if let Some((name, meaning)) = FIELDS.get(self.chosen) {
            lines.extend(page.text(Role::Label, &format!("{name}: {meaning}.")));
        }
        lines
    }
}

/// Where and how lines are drawn.
#[derive(Clone, Copy)]
struct Page {
    theme: Theme,
    columns: usize,
}

impl Page {
    fn title(self, text: &str) -> Line<'static> {
        rule(self.theme, self.columns, text, &[])
    }

    fn text(self, role: Role, text: &str) -> Vec<Line<'static>> {
        let style = self.theme.style(role);
        let lines = wrap(text, self.columns.saturating_sub(2));
        lines.into_iter().map(|line| Line::from(Span::styled(format!(" {line}"), style))).collect()
    }
}

/// Uplink and LANs as they are.
fn machine(page: Page, status: Option<&Status>) -> Vec<Line<'static>> {
    let Some(status) = status else { return page.text(Role::Label, "The router is starting.") };
    let lans = status.lans.iter().map(|lan| (lan.name.as_str(), &lan.interface));
    let mut lines = Vec::new();
    for (name, interface) in [("uplink", &status.wan)].into_iter().chain(lans) {
        let addresses: Vec<String> = interface
            .addresses
            .iter()
            .map(|(net, _)| net)
            .filter(|net| !matches!(net.addr(), std::net::IpAddr::V6(address) if address.is_unicast_link_local()))
            .map(ToString::to_string)
            .collect();
        let link = if interface.carrier { "link up" } else { "no link" };
        let addresses = if addresses.is_empty() { "no address yet".to_owned() } else { addresses.join("  ") };
        let text = format!(" {:<9} {:<9} {link:<9} {addresses}", harmless(name), harmless(&interface.name));
        lines.push(Line::from(clip(&text, page.columns)));
    }
    lines
}
