"""Campaigns: experiments compared in all the ways asked for."""
