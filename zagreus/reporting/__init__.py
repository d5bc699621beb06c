"""Tables, figures, the report and the RO-Crate, all made from the manifests of a run."""
