//! What an action tells while it goes on: ping, trace, resolve, capture, why.
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::{io::Write as _, ops::ControlFlow};

use ct_codecs::{Base64, Decoder as _};
use ratatui::text::{Line, Span};

use super::feed::Observation;
use super::page::{Item, clip, harmless, rule};
use super::theme::{Role, Theme};
use crate::control::{Client, ClientError, Reply, Request};
use crate::look::{probe_line, resolved_lines};

/// Lines that are kept.
const KEPT: usize = 2_000;

/// What was told.
#[derive(Debug)]
pub(super) struct Output {
    /// Which action it is; what others tell is late.
    pub(super) number: u64,
    /// What it is about.
    pub(super) title: String,
    /// The last lines of it.
    pub(super) lines: VecDeque<String>,
    /// How it ended, once it has.
    pub(super) ended: Option<Result<(), String>>,
}

impl Output {
    /// Nothing yet.
    pub(super) fn new(number: u64, title: String) -> Self {
        Self { number, title, lines: VecDeque::new(), ended: None }
    }

    /// Takes what was told.
    pub(super) fn extend(&mut self, lines: Vec<String>) {
        self.lines.extend(lines);
        while self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// The page.
    pub(super) fn page(&self, theme: Theme, columns: usize) -> Vec<Line<'static>> {
        let state = match &self.ended {
            None => Item::new(Role::Title, "goes on; Esc ends it"),
            Some(Ok(())) => Item::plain("ended"),
            Some(Err(_)) => Item::new(Role::Bad, "REFUSED"),
        };
        let mut lines = vec![rule(theme, columns, &harmless(&self.title), &[state])];
        let plain = |text: &str| Line::from(format!(" {}", clip(&harmless(text), columns.saturating_sub(2))));
        lines.extend(self.lines.iter().map(|line| plain(line)));
        if let Some(Err(why)) = &self.ended {
            let shown = super::page::wrap(&harmless(why), columns.saturating_sub(2));
            lines.extend(
                shown.into_iter().map(|line| Line::from(Span::styled(format!(" {line}"), theme.style(Role::Bad)))),
            );
        }
        lines
    }
}

/// Has the daemon do it and passes on what it tells, until its end or until `stop` is set.
pub(super) fn run(
    socket: &Path,
    number: u64,
    (request, file): (&Request, Option<&str>),
    stop: &AtomicBool,
    heard: &SyncSender<Observation>,
) {
    // A console that is gone ends this with the next line.
    let tell = |lines: Vec<String>| heard.send(Observation::Told(number, lines));
    let outcome = follow(socket, request, file, &|lines| {
        if tell(lines).is_ok() && !stop.load(Ordering::Relaxed) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    let _ = heard.send(Observation::Ended(number, outcome));
}

fn follow(
    socket: &Path,
    request: &Request,
    file: Option<&str>,
    tell: &dyn Fn(Vec<String>) -> ControlFlow<()>,
) -> Result<(), String> {
    let words = |error: ClientError| error.to_string();
    let mut client = Client::connect(socket).map_err(words)?;
    // Nobody who stops listening to one answer has to be told.
    let done = |_: ControlFlow<()>| Ok(());
    match request {
        Request::Resolve { name, synthesis } => {
            done(tell(resolved_lines(&client.resolve(name.clone(), *synthesis).map_err(words)?)))
        }
        Request::Why { from, to, service } => {
            let steps = client.why(from.clone(), to.clone(), service.clone()).map_err(words)?;
            done(tell(
                steps.iter().flat_map(|step| step.to_string().lines().map(str::to_owned).collect::<Vec<_>>()).collect(),
            ))
        }
        streamed => {
            let mut kept = match file {
                Some(path) => Some(std::fs::File::create(path).map_err(|error| format!("{path}: {error}"))?),
                None => None,
            };
            let mut failed = None;
            let ended = client.stream(streamed, |reply| match reply {
                Some(Reply::Probe { probe }) => tell(vec![probe_line(&probe)]),
                Some(Reply::Captured { file, lines }) => {
                    let bytes = Base64::decode_to_vec(file, None).unwrap_or_default();
                    if let Some(Err(error)) = kept.as_mut().map(|file| file.write_all(&bytes)) {
                        failed = Some(error.to_string());
                        return ControlFlow::Break(());
                    }
                    tell(lines)
                }
                Some(_) | None => tell(Vec::new()),
            });
            failed.map_or_else(|| ended.map_err(words), Err)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_keeps_its_end() {
        let mut output = Output::new(1, "Capture".to_owned());
        output.extend((0..5_000).map(|line| line.to_string()).collect());
        assert_eq!((output.lines.len(), output.lines.back().unwrap().as_str()), (KEPT, "4999"));
        output.ended = Some(Err("nothing \x1b can be captured".to_owned()));
        let page = output.page(Theme::new(false), 40);
        assert!(page.last().unwrap().to_string().contains("nothing ? can be captured"));
    }
}
