"""What can be measured, behind one protocol."""
