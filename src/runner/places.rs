//! Starts a container on the network, which other runs use too: one may just have removed it, or taken
//! the address. Then there is another place.

use super::{Shared, StepError};
use crate::engine::config::{ContainerConfig, NetworkAttachment};
use crate::engine::{Engine, EngineError, ErrorKind, OutputStream};
use crate::secrets::SecretBytes;

/// How many places on the network are tried before a container is given up.
const PLACES: usize = 64;

/// The places that are left to try.
pub(super) struct Places(usize);

impl Default for Places {
    fn default() -> Self {
        Self(PLACES)
    }
}

impl Places {
    /// Removes a container whose start failed, so that it can be created at another place.
    ///
    /// # Errors
    /// That of the start, where another place is of no use or none is left; that of the removal.
    pub(super) async fn another<E: Engine>(
        &mut self,
        shared: &Shared<E>,
        name: &str,
        error: EngineError,
    ) -> Result<(), EngineError> {
        self.0 -= 1;
        let is_lost = matches!(error.kind, ErrorKind::NoNetwork | ErrorKind::AddressInUse);
        if !is_lost || self.0 == 0 {
            return Err(error);
        }
        if error.kind == ErrorKind::NoNetwork {
            shared.network.has_gone().await;
        }
        shared.context.engine.remove_container(name).await
    }
}

/// Creates a container at a place on the network, attaches to it and starts it. `config` gives it and
/// what is written to its standard input.
pub(super) async fn started<E: Engine>(
    shared: &Shared<E>,
    stage: &'static str,
    config: impl Fn(NetworkAttachment) -> (ContainerConfig, Option<SecretBytes>),
) -> Result<OutputStream, StepError> {
    let engine = &*shared.context.engine;
    let step = |error: EngineError| shared.step_error(stage, error);
    let mut places = Places::default();
    loop {
        let network = shared.network.attachment(engine).await.map_err(step)?;
        let (config, input) = config(network);
        engine.create_container(&config).await.map_err(step)?;
        let output = engine.attach(&config.name, input).await.map_err(step)?;
        match engine.start(&config.name).await {
            Ok(()) => return Ok(output),
            Err(error) => {
                let another = places.another(shared, &config.name, error).await;
                another.map_err(step)?;
            }
        }
    }
}
