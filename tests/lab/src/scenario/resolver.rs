//! The resolver, as `dig` sees it.
use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::client::dig;
use crate::lab::Lab;
use crate::network::{SITE_V4, SITE_V6, synthesized};

pub(super) fn remembers(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let site = [synthesized(SITE_V4).to_string()];
    let question = format!("@{resolver} AAAA v4.lab.test");
    let client = &lab.client.namespace;
    ensure!(dig(client, &question)? == site);
    let asked = lab.dns.questions();
    for spelling in ["AAAA v4.lab.test", "AAAA V4.LAB.test", "AAAA v4.lab.test +tcp", "AAAA v4.lab.test +noedns"] {
        ensure!(dig(client, &format!("@{resolver} {spelling}"))? == site, "{spelling}");
    }
    ensure!(lab.dns.questions() == asked, "the upstream was asked again");
    let text = client.run(&format!("dig +time=3 +tries=3 {question}"))?.text()?;
    ensure!(text.contains("EDE: 29"), "no extended error says that it is synthesized: {text}");
    let text = client.run(&format!("dig +time=3 +tries=3 @{resolver} AAAA V4.lab.TEST"))?.text()?;
    ensure!(text.contains("V4.lab.TEST."), "the spelling is not the client's: {text}");
    lab.await_status("answers from the cache", |status| {
        let count = |name: &str| status["dns64"][name].as_u64();
        count("cached") >= Some(5) && count("synthesized") >= count("cached") && count("cache_answers") > Some(0)
    })?;

    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    let flush = format!("{binary} flush-dns --control {control} lab.test");
    ensure!(router.namespace().run(&flush)?.success, "{flush}");
    ensure!(dig(&lab.client.namespace, &question)? == site);
    ensure!(lab.dns.questions() > asked, "the name was not forgotten");
    let refused = router.namespace().run(&format!("{binary} flush-dns --control {control} a..b"))?;
    ensure!(!refused.success, "{refused}");
    Ok(())
}

pub(super) fn leaves_untranslated(lab: &mut Lab) -> Result<()> {
    let resolver = lab.learn_resolver(&lab.client)?;
    let question = format!("@{resolver} AAAA v4.lab.test");
    ensure!(dig(&lab.client.namespace, &question)? == [synthesized(SITE_V4).to_string()]);

    let with_ipv4 = lab.config("").replace("[dns64]\n", "[dns64]\nuntranslated = \"vms\"\n");
    let router = lab.router.in_namespace()?;
    router.write_config(&with_ipv4)?;
    router.signal(Signal::HUP)?;
    crate::wait::until("the synthesized answer to go", crate::lab::SOON, || {
        dig(&lab.client.namespace, &question).ok()?.is_empty().then_some(())
    })?;
    let both = format!("@{resolver} AAAA both.lab.test");
    ensure!(dig(&lab.client.namespace, &both)? == [SITE_V6.to_string()]);
    Ok(())
}
