//! SVG as pixels and PNG, for places that take no SVG.

use std::collections::BTreeMap;
use std::sync::Arc;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Letters, digits and signs of DejaVu Sans (see NOTICE), so that a machine without fonts draws the same.
const FONT: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");

/// Pixels a unit of the SVG: sharp on paper and on dense screens.
const SCALE: f32 = 3.0;

/// A plot of the report, in its light colours.
pub(super) fn png(svg: &str) -> Result<Vec<u8>, String> {
    let pixels = draw(&flat(svg), SCALE)?;
    pixels.encode_png().map_err(|error| error.to_string())
}

/// An SVG on white, in `scale` pixels a unit.
pub(super) fn draw(svg: &str, scale: f32) -> Result<Pixmap, String> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    let options = Options {
        font_family: "DejaVu Sans".into(),
        fontdb: Arc::new(fonts),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree.size();
    let side = |units: f32| (units * scale).ceil() as u32;
    let mut pixels = Pixmap::new(side(size.width()), side(size.height()))
        .ok_or("it has no size, or is too large")?;
    pixels.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut pixels.as_mut(),
    );
    Ok(pixels)
}

/// The SVG with the values of its style's variables in their places, which are all that the renderer does not know: those of the
/// first `:root`, the light ones.
fn flat(svg: &str) -> String {
    let Some((before, style)) = svg.split_once("<style>") else {
        return svg.to_owned();
    };
    let Some((style, after)) = style.split_once("</style>") else {
        return svg.to_owned();
    };
    let root = style
        .strip_prefix(":root{")
        .and_then(|style| style.split_once('}'));
    let (variables, rules) = root.unwrap_or(("", style));
    let values: BTreeMap<&str, &str> = variables
        .split(';')
        .filter_map(|pair| pair.trim().split_once(':'))
        .collect();
    // What follows the rules for dark screens and for print.
    let mut rules = rules;
    while let Some(rest) = rules.strip_prefix("@media") {
        rules = rest.split_once("}}").map_or("", |(_, rest)| rest);
    }
    let mut flat = rules.to_owned();
    for (name, value) in values {
        flat = flat.replace(&format!("var({name})"), value);
    }
    format!("{before}<style>{flat}</style>{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_letters_are_drawn_in_their_colours() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 40 20\"><style>:root{--ink:#0000ff;--val:#ff0000}\
                   @media(prefers-color-scheme:dark){:root{--ink:#00ff00;--val:#00ff00}}@media print{:root{--ink:#0f0}}\
                   .a{fill:var(--val)}text{fill:var(--ink);font:13px system-ui,'DejaVu Sans',sans-serif}</style>\
                   <path class=\"a\" d=\"M0 0H10V20H0Z\"/><text x=\"14\" y=\"15\">0.5</text></svg>";
        let drawn = image::load_from_memory(&png(svg).unwrap())
            .unwrap()
            .to_rgb8();
        assert_eq!(drawn.dimensions(), (120, 60));
        assert_eq!(drawn.get_pixel(5, 5).0, [255, 0, 0]);
        assert_eq!(drawn.get_pixel(115, 2).0, [255, 255, 255]);
        let letters = drawn
            .pixels()
            .filter(|pixel| pixel.0 == [0, 0, 255])
            .count();
        assert!(letters > 50, "{letters}");
        assert!(png("<svg").is_err());
    }
}
