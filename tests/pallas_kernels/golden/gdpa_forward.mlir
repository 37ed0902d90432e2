// 8 warps, 2 stages
module @gdpa_forward {
  tt.func public @gdpa_forward(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg6: !tt.ptr<bf16> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<1024> : tensor<128xi32>
    %cst_0 = arith.constant dense<0.000000e+00> : tensor<128x128xf32>
    %cst_1 = arith.constant dense<524288> : tensor<128x128xi32>
    %cst_2 = arith.constant dense<128> : tensor<128xi32>
    %cst_3 = arith.constant dense<0.000000e+00> : tensor<128x128xbf16>
    %cst_4 = arith.constant dense<128> : tensor<128x128xi32>
    %cst_5 = arith.constant dense<512> : tensor<128x128xi32>
    %cst_6 = arith.constant dense<131072> : tensor<128x128xi32>
    %c127_i32 = arith.constant 127 : i32
    %c8_i32 = arith.constant 8 : i32
    %cst_7 = arith.constant 5.000000e-01 : f32
    %cst_8 = arith.constant 0.0356774069 : f32
    %cst_9 = arith.constant 0.797884583 : f32
    %c4_i32 = arith.constant 4 : i32
    %c128_i32 = arith.constant 128 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %0 = tt.get_program_id y : i32
    %1 = tt.get_program_id z : i32
    %2 = tt.addptr %arg0, %1 : !tt.ptr<i32>, i32
    %3 = tt.load %2 : !tt.ptr<i32>
    %4 = tt.addptr %arg1, %1 : !tt.ptr<i32>, i32
    %5 = tt.load %4 : !tt.ptr<i32>
    %6 = arith.muli %1, %c4_i32 : i32
    %7 = arith.addi %6, %0 : i32
    %8 = tt.addptr %arg2, %7 : !tt.ptr<f32>, i32
    %9 = tt.load %8 : !tt.ptr<f32>
    %10 = arith.addi %3, %c127_i32 : i32
    %11 = arith.divsi %10, %c128_i32 : i32
    %12 = arith.cmpi sgt, %10, %c0_i32 : i32
    %13 = arith.extui %12 : i1 to i32
    %14 = arith.cmpi slt, %10, %c0_i32 : i32
    %15 = arith.extui %14 : i1 to i32
    %16 = arith.subi %13, %15 : i32
    %17 = arith.cmpi ne, %16, %c1_i32 : i32
    %18 = arith.remsi %10, %c128_i32 : i32
    %19 = arith.cmpi ne, %18, %c0_i32 : i32
    %20 = arith.andi %17, %19 : i1
    %21 = arith.subi %11, %c1_i32 : i32
    %22 = arith.select %20, %21, %11 : i32
    %23 = arith.maxsi %22, %c0_i32 : i32
    %24 = arith.minsi %23, %c8_i32 : i32
    %25 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %26 = tt.splat %5 : i32 -> tensor<128xi32>
    %27 = arith.cmpi slt, %25, %26 : tensor<128xi32>
    %28 = tt.expand_dims %27 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %29 = tt.broadcast %28 : tensor<128x1xi1> -> tensor<128x128xi1>
    %30 = tt.splat %1 : i32 -> tensor<128x128xi32>
    %31 = arith.muli %30, %cst_6 : tensor<128x128xi32>
    %32 = tt.expand_dims %25 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
    %33 = tt.broadcast %32 : tensor<128x1xi32> -> tensor<128x128xi32>
    %34 = arith.muli %33, %cst_5 : tensor<128x128xi32>
    %35 = arith.addi %31, %34 : tensor<128x128xi32>
    %36 = tt.splat %0 : i32 -> tensor<128x128xi32>
    %37 = arith.muli %36, %cst_4 : tensor<128x128xi32>
    %38 = arith.addi %35, %37 : tensor<128x128xi32>
    %39 = tt.expand_dims %25 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %40 = tt.broadcast %39 : tensor<1x128xi32> -> tensor<128x128xi32>
    %41 = arith.addi %38, %40 : tensor<128x128xi32>
    %42 = tt.splat %arg4 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %43 = tt.addptr %42, %41 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %44 = tt.load %43, %29, %cst_3 : tensor<128x128x!tt.ptr<bf16>>
    %45 = tt.splat %arg5 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %46 = tt.addptr %45, %41 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %47 = tt.load %46, %29, %cst_3 : tensor<128x128x!tt.ptr<bf16>>
    %48 = arith.addi %25, %cst_2 : tensor<128xi32>
    %49 = arith.cmpi slt, %48, %26 : tensor<128xi32>
    %50 = tt.expand_dims %49 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %51 = tt.broadcast %50 : tensor<128x1xi1> -> tensor<128x128xi1>
    %52 = tt.make_range {end = 256 : i32, start = 128 : i32} : tensor<128xi32>
    %53 = tt.expand_dims %52 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
    %54 = tt.broadcast %53 : tensor<128x1xi32> -> tensor<128x128xi32>
    %55 = arith.muli %54, %cst_5 : tensor<128x128xi32>
    %56 = arith.addi %31, %55 : tensor<128x128xi32>
    %57 = arith.addi %56, %37 : tensor<128x128xi32>
    %58 = arith.addi %57, %40 : tensor<128x128xi32>
    %59 = tt.addptr %42, %58 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %60 = tt.load %59, %51, %cst_3 : tensor<128x128x!tt.ptr<bf16>>
    %61 = tt.addptr %45, %58 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %62 = tt.load %61, %51, %cst_3 : tensor<128x128x!tt.ptr<bf16>>
    scf.for %arg7 = %c0_i32 to %24 step %c1_i32  : i32 {
      %63 = arith.muli %arg7, %c128_i32 : i32
      %64 = tt.splat %63 : i32 -> tensor<128xi32>
      %65 = arith.addi %64, %25 : tensor<128xi32>
      %66 = tt.splat %3 : i32 -> tensor<128xi32>
      %67 = arith.cmpi slt, %65, %66 : tensor<128xi32>
      %68 = tt.expand_dims %67 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
      %69 = tt.broadcast %68 : tensor<128x1xi1> -> tensor<128x128xi1>
      %70 = arith.muli %30, %cst_1 : tensor<128x128xi32>
      %71 = tt.expand_dims %65 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %72 = tt.broadcast %71 : tensor<128x1xi32> -> tensor<128x128xi32>
      %73 = arith.muli %72, %cst_5 : tensor<128x128xi32>
      %74 = arith.addi %70, %73 : tensor<128x128xi32>
      %75 = arith.addi %74, %37 : tensor<128x128xi32>
      %76 = arith.addi %75, %40 : tensor<128x128xi32>
      %77 = tt.splat %arg3 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %78 = tt.addptr %77, %76 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      %79 = tt.load %78, %69, %cst_3 : tensor<128x128x!tt.ptr<bf16>>
      %80 = tt.trans %44 {order = array<i32: 1, 0>} : tensor<128x128xbf16> -> tensor<128x128xbf16>
      %81 = tt.dot %79, %80, %cst_0, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x128xbf16> -> tensor<128x128xf32>
      %82 = arith.mulf %9, %cst_9 : f32
      %83 = arith.mulf %9, %9 : f32
      %84 = arith.mulf %83, %9 : f32
      %85 = arith.mulf %84, %cst_8 : f32
      %86 = arith.mulf %81, %81 : tensor<128x128xf32>
      %87 = tt.splat %85 : f32 -> tensor<128x128xf32>
      %88 = tt.splat %82 : f32 -> tensor<128x128xf32>
      %89 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %86, %87, %88 : tensor<128x128xf32>, tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
      %90 = arith.mulf %81, %89 : tensor<128x128xf32>
      %91 = tt.elementwise_inline_asm "tanh.approx.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %90 : tensor<128x128xf32> -> tensor<128x128xf32>
      %92 = arith.mulf %9, %cst_7 : f32
      %93 = tt.splat %92 : f32 -> tensor<128x128xf32>
      %94 = arith.mulf %81, %93 : tensor<128x128xf32>
      %95 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %94, %91, %94 : tensor<128x128xf32>, tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
      %96 = arith.truncf %95 : tensor<128x128xf32> to tensor<128x128xbf16>
      %97 = tt.dot %96, %47, %cst_0, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x128xbf16> -> tensor<128x128xf32>
      %98 = arith.addf %97, %cst_0 : tensor<128x128xf32>
      %99 = tt.trans %60 {order = array<i32: 1, 0>} : tensor<128x128xbf16> -> tensor<128x128xbf16>
      %100 = tt.dot %79, %99, %cst_0, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x128xbf16> -> tensor<128x128xf32>
      %101 = arith.mulf %100, %100 : tensor<128x128xf32>
      %102 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %101, %87, %88 : tensor<128x128xf32>, tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
      %103 = arith.mulf %100, %102 : tensor<128x128xf32>
      %104 = tt.elementwise_inline_asm "tanh.approx.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %103 : tensor<128x128xf32> -> tensor<128x128xf32>
      %105 = arith.mulf %100, %93 : tensor<128x128xf32>
      %106 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %105, %104, %105 : tensor<128x128xf32>, tensor<128x128xf32>, tensor<128x128xf32> -> tensor<128x128xf32>
      %107 = arith.truncf %106 : tensor<128x128xf32> to tensor<128x128xbf16>
      %108 = tt.dot %107, %62, %cst_0, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x128xbf16> -> tensor<128x128xf32>
      %109 = arith.addf %98, %108 : tensor<128x128xf32>
      %110 = arith.cmpi slt, %65, %cst : tensor<128xi32>
      %111 = tt.expand_dims %110 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
      %112 = tt.broadcast %111 : tensor<128x1xi1> -> tensor<128x128xi1>
      %113 = arith.truncf %109 : tensor<128x128xf32> to tensor<128x128xbf16>
      %114 = tt.splat %arg6 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %115 = tt.addptr %114, %76 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      tt.store %115, %113, %112 : tensor<128x128x!tt.ptr<bf16>>
    }
    scf.for %arg7 = %24 to %c8_i32 step %c1_i32  : i32 {
      %63 = arith.muli %arg7, %c128_i32 : i32
      %64 = tt.splat %63 : i32 -> tensor<128xi32>
      %65 = arith.addi %64, %25 : tensor<128xi32>
      %66 = arith.cmpi slt, %65, %cst : tensor<128xi32>
      %67 = tt.expand_dims %66 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
      %68 = tt.broadcast %67 : tensor<128x1xi1> -> tensor<128x128xi1>
      %69 = arith.muli %30, %cst_1 : tensor<128x128xi32>
      %70 = tt.expand_dims %65 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %71 = tt.broadcast %70 : tensor<128x1xi32> -> tensor<128x128xi32>
      %72 = arith.muli %71, %cst_5 : tensor<128x128xi32>
      %73 = arith.addi %69, %72 : tensor<128x128xi32>
      %74 = arith.addi %73, %37 : tensor<128x128xi32>
      %75 = arith.addi %74, %40 : tensor<128x128xi32>
      %76 = tt.splat %arg6 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %77 = tt.addptr %76, %75 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      tt.store %77, %cst_3, %68 : tensor<128x128x!tt.ptr<bf16>>
    }
    tt.return
  }
}
