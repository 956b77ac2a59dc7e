//! Finding a writer's schema that this process has not met.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::codec::Codec;
use crate::frame::SchemaRef;

/// How often a source is asked again for a schema it does not have yet.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What a lookup gives: the schema's text, `None` while nobody has published it, or why the source
/// cannot be asked.
pub type Found = Result<Option<String>, String>;

/// A source of writer schemas: the `schemas` topic, or a registry.
pub trait SchemaLookup: Send + Sync {
    /// Looks a schema up.
    fn find(&self, reference: SchemaRef) -> Pin<Box<dyn Future<Output = Found> + Send + '_>>;
}

/// A source that knows no schema, for installations with our own writers only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLookup;

impl SchemaLookup for NoLookup {
    fn find(&self, _: SchemaRef) -> Pin<Box<dyn Future<Output = Found> + Send + '_>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Teaches `codec` a missing schema. While the source cannot be asked this waits for ever (nothing
/// may be judged by a source that is down); where it can, the schema has `patience` to appear.
///
/// # Errors
/// Why the schema stays unknown; the record belongs to the dead letters.
pub async fn learn_missing(
    codec: &Codec,
    lookup: &dyn SchemaLookup,
    reference: SchemaRef,
    patience: Duration,
) -> Result<(), String> {
    let mut absent_since = None;
    loop {
        match lookup.find(reference).await {
            Ok(Some(text)) => return codec.learn(reference, &text),
            Ok(None) => {
                let since = *absent_since.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() >= patience {
                    return Err(format!(
                        "{reference} was not found for {} s; publish the writer's schema",
                        patience.as_secs()
                    ));
                }
            }
            Err(_unreachable) => absent_since = None,
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
