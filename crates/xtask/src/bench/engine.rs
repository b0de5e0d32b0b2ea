//! The engine by itself: what its own benchmark prints.
use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::series::Series;
use crate::command::{cargo, output};

/// One of its results.
#[derive(Deserialize)]
struct Line {
    name: String,
    values: Vec<f64>,
}

/// What the engine's benchmark found.
pub(super) struct Engine {
    pub(super) mebibytes: Series,
    pub(super) new_tcp: Series,
    pub(super) new_udp: Series,
    pub(super) v6_to_v4: Series,
    pub(super) v4_to_v6: Series,
}

/// Builds and runs `crates/engine/benches/nat64.rs`.
pub(super) fn run() -> Result<Engine> {
    eprintln!("the engine by itself");
    let text = output(cargo().args(["bench", "--quiet", "--package", "sixgate-engine", "--bench", "nat64"]))?;
    let lines: Vec<Line> =
        text.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str).collect::<Result<_, _>>()?;
    let series = |name: &str| -> Result<Series> {
        let line = lines.iter().find(|line| line.name == name).with_context(|| format!("{name} was not measured"))?;
        Ok(Series::new(line.values.clone()))
    };
    Ok(Engine {
        mebibytes: series("mebibytes-for-a-million-sessions")?,
        new_tcp: series("new-sessions-tcp")?,
        new_udp: series("new-sessions-udp")?,
        v6_to_v4: series("packets-v6-to-v4")?,
        v4_to_v6: series("packets-v4-to-v6")?,
    })
}
