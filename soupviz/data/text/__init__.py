"""Text as tokens: tables of sentences, documents and questions, and the tokenizers that read them."""
