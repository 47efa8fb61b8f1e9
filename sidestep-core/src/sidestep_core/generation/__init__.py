"""Generating audio: samplers over ready conditioning, decoding in windows, files to listen to."""
