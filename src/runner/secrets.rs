//! The values of a run's secrets while it runs: read anew for each further attempt at a task, so that a
//! token that lives for a short time does not expire over them, and masked from then on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::{Shared, StepError};
use crate::engine::Engine;
use crate::event::EventKind;
use crate::plan::{SecretOrigin, SecretSource, TaskPlan};
use crate::secrets::SecretString;

/// How a value is read, or why it cannot be.
type Read = dyn Fn(&SecretSource) -> Result<SecretString, String> + Send + Sync;

/// The values of a plan's secrets, by name.
pub struct Secrets {
    values: Mutex<BTreeMap<String, SecretString>>,
    read: Arc<Read>,
}

impl Secrets {
    /// These values, which are masked already, and how they are read again.
    pub fn new(
        values: impl IntoIterator<Item = (String, SecretString)>,
        read: impl Fn(&SecretSource) -> Result<SecretString, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            values: Mutex::new(values.into_iter().collect()),
            read: Arc::new(read),
        }
    }

    /// No secrets.
    pub fn none() -> Self {
        Self::new([], |_| Err("it is not known".to_owned()))
    }

    /// The value of a secret as it was last read.
    pub(super) fn value(&self, name: &str) -> Option<SecretString> {
        self.lock().get(name).cloned()
    }

    fn put(&self, name: String, value: SecretString) {
        self.lock().insert(name, value);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, SecretString>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Engine> Shared<E> {
    /// Reads what a task is granted again, and masks what is new. The environment stays what it was.
    pub(super) async fn read_secrets_again(&self, task: &TaskPlan) -> Result<(), StepError> {
        let context = &self.context;
        let granted = task.secret_names();
        let sources = context.plan.secrets.iter().filter(|source| {
            let may_change = !matches!(source.origin, SecretOrigin::Environment(_));
            may_change && granted.contains(source.name.as_str())
        });
        for source in sources {
            let read = self.read_again(source).await;
            let (value, is_masked) = read.map_err(|message| StepError {
                stage: "secrets",
                message,
            })?;
            if !is_masked {
                let name = &source.name;
                let message = format!("secret {name} is too short to be masked in output");
                self.event(Some(&task.id), EventKind::Warning { message });
            }
            context.secrets.put(source.name.clone(), value);
        }
        Ok(())
    }

    /// The value of now, and whether it is masked.
    async fn read_again(&self, source: &SecretSource) -> Result<(SecretString, bool), String> {
        let before = self.context.secrets.value(&source.name);
        let (needles, read) = (
            self.context.needles.clone(),
            self.context.secrets.read.clone(),
        );
        let (tell, told) = oneshot::channel();
        let source = source.clone();
        // Not one of the runtime's: at its end that would wait for a program that nobody waits for.
        std::thread::spawn(move || {
            let value = read(&source);
            let value = value.map(|value| {
                let is_known = before.as_ref() == Some(&value);
                let is_masked = is_known || needles.add(&value);
                (value, is_masked)
            });
            let _ = tell.send(value);
        });
        told.await
            .unwrap_or_else(|_| Err("it could not be read".to_owned()))
    }
}
