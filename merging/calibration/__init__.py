"""What a merge looks at: prompts, row sets, teachers, target layers. No model here."""
