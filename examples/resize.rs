//! A picture comes in, a smaller one goes out: decoding on a thread for blocking work, the shard
//! free meanwhile, the result streamed back.
//!
//! Run with: `cargo run --release --example resize`
//! Try: `curl --data-binary @photo.jpg 'http://127.0.0.1:8080/?width=800&height=600' -o small.jpg`

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits as ImageLimits};
use serde::Deserialize;
use soloist::middleware::body_limit;
use soloist::prelude::*;

#[path = "common/args.rs"]
mod args;

const PICTURE_BYTES_MAX: u64 = 20 << 20;
const PIXELS_BYTES_MAX: u64 = 256 << 20;

#[derive(Deserialize)]
#[serde(default)]
struct Size {
    width: u32,
    height: u32,
}

impl Default for Size {
    fn default() -> Size {
        Size { width: 800, height: 600 }
    }
}

fn main() -> Result<()> {
    args::server()?.run(app)
}

async fn app(_: Shard) -> Result<App<()>> {
    Ok(App::new(()).wrap(body_limit(PICTURE_BYTES_MAX)).post("/", resize))
}

async fn resize(cx: &Ctx<()>) -> Result<Reply> {
    let size: Size = cx.query_as()?;
    if !(1..=4_000).contains(&size.width) || !(1..=4_000).contains(&size.height) {
        return Err(Error::bad_request("width and height: 1 to 4000"));
    }
    let mut picture = Vec::new();
    while let Some(chunk) = cx.next_chunk().await? {
        picture.extend_from_slice(&chunk);
    }
    // A core full of pixels is no place for other requests: this runs elsewhere.
    let smaller = cx.shard().blocking(move || shrink(picture, size)).await?;
    let smaller = smaller.map_err(|error| Error::new(415, error.to_string()))?;
    let mut out = cx.stream("image/jpeg").await?;
    for block in smaller.chunks(64 * 1024) {
        out.write(block).await?;
    }
    out.finish().await
}

/// Fits the picture into the size, as a JPEG. A small file that claims to be a huge picture is
/// refused before it has any pixels.
fn shrink(picture: Vec<u8>, size: Size) -> image::ImageResult<Vec<u8>> {
    let mut reader = ImageReader::new(Cursor::new(picture)).with_guessed_format()?;
    let mut limits = ImageLimits::default();
    limits.max_alloc = Some(PIXELS_BYTES_MAX);
    reader.limits(limits);
    let smaller = reader.decode()?.thumbnail(size.width, size.height).into_rgb8();
    let mut out = Cursor::new(Vec::new());
    smaller.write_to(&mut out, ImageFormat::Jpeg)?;
    Ok(out.into_inner())
}

#[test]
fn pictures_become_smaller() {
    let mut large = Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(1_000, 500, |x, y| image::Rgb([x as u8, y as u8, 7]));
    picture.write_to(&mut large, ImageFormat::Png).expect("a picture");
    soloist::testing::TestClient::run(app, async |client| {
        let call = client.post("/?width=100&height=100").body(large.get_ref()).pieces(10_000);
        let answer = call.await.expect(200).has("content-type", "image/jpeg");
        let small = image::load_from_memory(answer.body()).expect("a picture");
        assert_eq!((small.width(), small.height()), (100, 50));
        client.post("/").body("no picture").await.expect(415);
        client.post("/?width=0").body("x").await.expect(400);
    });
}
