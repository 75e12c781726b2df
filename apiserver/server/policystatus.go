package server

import (
	"context"

	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/typecheck"
	"bareboat.dev/apiserver/server/openapi"
)

// checkTypes keeps the statuses of the admission policies, once everything that there is to be named in them is served.
func (s *Server) checkTypes(ctx context.Context) error {
	if err := s.customs.Sync(ctx); err != nil {
		return ignoreCanceled(ctx, err)
	}
	runner := typecheck.Runner{
		Checker:  typecheck.Checker{Compiler: expression.NewCompiler(), Schema: openapi.Inline},
		Pipeline: s.pipeline, CatchUp: s.customs.CatchUp, Log: s.cfg.Log,
	}
	return runner.Run(ctx)
}
