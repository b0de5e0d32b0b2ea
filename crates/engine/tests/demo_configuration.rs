//! The demo's configuration is valid and says openly that it translates to private addresses.

use sixgate_engine::config::parse;

#[test]
fn the_demo_exempts_its_private_server_openly() {
    let template = include_str!("../../../image/demo.toml");
    let config = parse(&template.replace("@DNS@", "5353"), "image/demo.toml").unwrap();
    assert_eq!(config.dns64.upstream, ["10.0.2.2:5353".parse().unwrap()]);
    assert_eq!(config.nat64.unwrap().translate_non_global, ["10.0.2.0/24".parse().unwrap()]);
}
