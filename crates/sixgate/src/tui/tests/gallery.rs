//! What holds of every page in every state.
use ratatui::style::Color;

use super::*;

/// Every state in every view.
fn gallery() -> Vec<App> {
    let mut gallery = Vec::new();
    for key in [
        None,
        Some('l'),
        Some('t'),
        Some('d'),
        Some('w'),
        Some('s'),
        Some('m'),
        Some('f'),
        Some('?'),
        Some('p'),
        Some('r'),
    ] {
        let mut apps = vec![
            app(),
            showing([Status::default()]),
            showing((0..4).map(normal)),
            showing((0..4).map(overloaded)),
            showing([configuration_error()]),
        ];
        let mut gone = showing([normal(0)]);
        gone.observe(Observation::Trouble(Trouble::OtherVersion(Some(2))));
        gone.observe(Observation::Rejected(Request::PowerOff, "no supervisor\nhere".to_owned()));
        apps.push(gone);
        for mut app in apps {
            if let Some(key) = key {
                press(&mut app, KeyCode::Char(key));
            }
            gallery.push(app);
        }
    }
    gallery
}

#[test]
fn no_size_breaks_any_page() {
    for mut app in gallery() {
        for columns in (1..=16).chain([20, 40, 60, 80, 159, 160, 161, 300]) {
            for rows in (1..=8).chain([24, 100]) {
                terminal(&mut app, (columns, rows));
                app.scroll = usize::MAX;
                terminal(&mut app, (columns, rows));
                assert!(app.scroll < usize::MAX, "the scroll position stays on the page");
            }
        }
    }
}

#[test]
fn all_glyphs_are_in_code_page_437() {
    let known = "─│┌┐└┘█▄░↑↓←→►«»";
    for mut app in gallery() {
        for size in SIZES {
            let shown = rows(&mut app, size);
            let foreign = shown.chars().find(|glyph| !glyph.is_ascii() && !known.contains(*glyph));
            assert_eq!(foreign, None, "{shown}");
        }
    }
}

#[test]
fn monochrome_uses_no_colour_and_shows_the_same_text() {
    for mut app in gallery() {
        let coloured = rows(&mut app, SIZES[0]);
        app.theme = Theme::new(false);
        assert_eq!(rows(&mut app, SIZES[0]), coloured);
        let terminal = terminal(&mut app, SIZES[0]);
        for cell in terminal.backend().buffer().content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }
}
