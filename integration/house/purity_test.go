package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// impureCalls lists the places of a package's sources that read the clock or start goroutines.
func impureCalls(t *testing.T, p pkg) []string {
	t.Helper()
	var found []string
	for _, file := range p.GoFiles {
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.GoStmt:
				found = append(found, fmt.Sprintf("%s: go statement", fset.Position(x.Pos())))
			case *ast.SelectorExpr:
				if id, ok := x.X.(*ast.Ident); ok && id.Name == "time" && clock(x.Sel.Name) {
					found = append(found, fmt.Sprintf("%s: time.%s", fset.Position(x.Pos()), x.Sel.Name))
				}
			}
			return true
		})
	}
	return found
}

// clock reports whether a name of package time reads the clock or waits.
func clock(name string) bool {
	switch name {
	case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick":
		return true
	}
	return false
}
