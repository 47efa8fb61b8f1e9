"""Adapter types for sidestep: small trained updates of ACE-Step 1.5's frozen decoder."""
