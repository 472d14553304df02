"""Time, memory and operations of attentions against length."""
