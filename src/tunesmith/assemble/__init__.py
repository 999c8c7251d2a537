"""Recipe -> live objects; and Run -> Tunable again."""
