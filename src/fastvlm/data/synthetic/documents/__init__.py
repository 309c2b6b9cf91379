"""Generated documents with everything that is true of them: `samples.document_sample` is the way in."""
