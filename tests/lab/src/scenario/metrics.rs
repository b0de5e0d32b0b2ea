//! Metrics for Prometheus, on a LAN and nowhere else.
use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::lab::{self, Lab};
use crate::program;

/// `[metrics]` of these scenarios.
const PORT: u16 = 9464;

pub(super) fn are_told_to_the_lan_alone(lab: &mut Lab) -> Result<()> {
    lab.start_with("\n[metrics]\nlan = \"vms\"\n")?;
    let router: Ipv6Addr = "2001:db8:1:2::1".parse()?;
    let url = format!("http://[{router}]:{PORT}/metrics");
    lab::await_connection(&lab.client.namespace, router, PORT)?;
    let text = lab::fetch(&lab.client.namespace, &url)?;
    for line in ["sixgate_firewall_forwarding 1", "sixgate_dns64_synthesizing 1", "sixgate_nat64_working 1"] {
        ensure!(text.lines().any(|found| found.starts_with(line)), "no {line} in:\n{text}");
    }
    please_their_own_tool(lab, &text)?;
    // The same address and port, from outside.
    lab::ensure_refused(&lab.internet, router, PORT)
}

/// Prometheus' tool finds nothing wrong with the metrics, the rules, what the rules fire on, and the dashboard's expressions.
fn please_their_own_tool(lab: &Lab, metrics: &str) -> Result<()> {
    let folder = lab.world.folder();
    let (told, dashboard) = (folder.join("metrics.txt"), folder.join("dashboard.yml"));
    fs::write(&told, metrics)?;
    // It reads metrics from its standard input alone.
    let checked = format!("promtool check metrics < '{}'", told.display());
    let said = program::run(["sh", "-c", &checked], program::DEADLINE)?;
    ensure!(said.success && said.stderr.is_empty(), "{said}");

    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    program::tool(&format!("promtool check rules {}", documents.join("alerts.yml").display()))?;
    program::tool(&format!("promtool test rules {}/alerts.test.yml", env!("CARGO_MANIFEST_DIR")))?;

    let grafana: Value = serde_json::from_str(&fs::read_to_string(documents.join("grafana.json"))?)?;
    let panels = grafana["panels"].as_array().context("the dashboard has no panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, target) in targets.enumerate() {
        let expression = target["expr"].as_str().context("a panel without an expression")?;
        // As Grafana fills them in.
        let filled = expression.replace("$__rate_interval", "5m").replace("$instance", "gw1");
        rules += &format!("      - {{ record: \"panel:number:{number}\", expr: {} }}\n", json!(filled));
    }
    fs::write(&dashboard, rules)?;
    let said = program::tool(&format!("promtool check rules {}", dashboard.display()))?;
    ensure!(said.contains("rules found"), "{said}");
    Ok(())
}
